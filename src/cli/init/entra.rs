//! The commands that register the application in Entra ID, ready to paste. `docs/registering.md` has the same.

use super::args::{Cloud, Kind};

/// `tenant` is a domain or a GUID, `issuer` that of the tenant's tokens if it is known.
pub(super) fn commands(tenant: &str, kind: Kind, cloud: Option<Cloud>, issuer: Option<&str>) -> String {
    let (name, login, audience) = match cloud {
        None | Some(Cloud::Commercial) => (None, "login.microsoftonline.com", "api://AzureADTokenExchange"),
        Some(Cloud::UsGovernment) => {
            (Some("AzureUSGovernment"), "login.microsoftonline.us", "api://AzureADTokenExchangeUSGov")
        }
        Some(Cloud::China) => {
            (Some("AzureChinaCloud"), "login.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina")
        }
    };
    let set = name.map(|name| format!("az cloud set --name {name}\n")).unwrap_or_default();
    let credential = match kind {
        Kind::ClientSecret => "# the client secret: copy it now, it is shown only once\n\
             az ad app credential reset --id \"$APP\" --append --display-name vetwatch --years 1 --query password --output tsv\n"
            .to_owned(),
        Kind::Certificate => "# a certificate and its key, made here; only the certificate is uploaded\n\
             openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj /CN=vetwatch -keyout private-key.pem -out certificate.pem\n\
             az ad app credential reset --id \"$APP\" --append --cert @certificate.pem\n"
            .to_owned(),
        Kind::ManagedIdentity => format!(
            "# an identity for the machine, and the application's trust in it; write your names for GROUP and MACHINE\n\
             az identity create --resource-group GROUP --name vetwatch\n\
             IDENTITY=$(az identity show --resource-group GROUP --name vetwatch --query id --output tsv)\n\
             SUBJECT=$(az identity show --resource-group GROUP --name vetwatch --query principalId --output tsv)\n\
             az vm identity assign --resource-group GROUP --name MACHINE --identities \"$IDENTITY\"\n\
             az ad app federated-credential create --id \"$APP\" --parameters \"{{\\\"name\\\":\\\"vetwatch-machine\\\",\
             \\\"issuer\\\":\\\"{}\\\",\\\"subject\\\":\\\"$SUBJECT\\\",\\\"audiences\\\":[\\\"{audience}\\\"]}}\"\n\
             # the client id of the identity, which vetwatch asks for beside that of the application\n\
             az identity show --resource-group GROUP --name vetwatch --query clientId --output tsv\n",
            // A federated credential names the tenant by its GUID.
            issuer.map_or_else(|| format!("https://{login}/TENANT-GUID/v2.0"), str::to_owned)
        ),
        Kind::WorkloadIdentity => format!(
            "# the application's trust in the platform; ISSUER and SUBJECT are those of the platform's token\n\
             az ad app federated-credential create --id \"$APP\" --parameters \"{{\\\"name\\\":\\\"vetwatch-platform\\\",\
             \\\"issuer\\\":\\\"ISSUER\\\",\\\"subject\\\":\\\"SUBJECT\\\",\\\"audiences\\\":[\\\"{audience}\\\"]}}\"\n"
        ),
    };
    format!(
        "{set}az login --tenant {tenant} --allow-no-subscriptions\n\
         APP=$(az ad app create --display-name vetwatch --sign-in-audience AzureADMyOrg --query appId --output tsv)\n\
         az ad sp create --id \"$APP\"\n\
         {credential}\
         # the application's client id\n\
         echo \"$APP\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_command() {
        let page = include_str!("../../../docs/registering.md");
        for kind in [Kind::ClientSecret, Kind::Certificate, Kind::ManagedIdentity, Kind::WorkloadIdentity] {
            for line in commands("contoso.onmicrosoft.com", kind, None, None).lines() {
                assert!(line.starts_with('#') || page.contains(line), "{kind:?}: {line}");
            }
        }
    }

    #[test]
    fn other_clouds_have_other_names() {
        let china = commands("contoso.example", Kind::ManagedIdentity, Some(Cloud::China), None);
        for word in ["AzureChinaCloud", "login.partner.microsoftonline.cn/TENANT-GUID", "AzureADTokenExchangeChina"] {
            assert!(china.contains(word), "{word} in {china}");
        }
        let known = commands("contoso.example", Kind::ManagedIdentity, None, Some("https://login.example/1-2/v2.0"));
        assert!(known.contains(r#"\"issuer\":\"https://login.example/1-2/v2.0\""#), "{known}");
    }
}
