"""Drives Microsoft's own sign-in library and a Partner Center client against the sandbox.

The environment's proxy leads to the sandbox under Microsoft's names, and REQUESTS_CA_BUNDLE trusts it. stdin: an object
with `tenant`, `client_id`, `client_secret`, `certificate` (PEM, with its key), `control` (URL of the control API).
Prints what each client read.
"""

import json
import sys
import threading

import jwt
import msal
import requests
from azure.identity import DeviceCodeCredential
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from partner_tools import PartnerTools
from partner_tools.auth.auth_info import SCOPES, AuthInfo
from partner_tools.clients.api import ApiClient

given = json.load(sys.stdin)
tenant, client_id = given["tenant"], given["client_id"]
authority = f"https://login.microsoftonline.com/{tenant}"
app_scope = ["https://api.partnercenter.microsoft.com/.default"]
direct = requests.Session()
direct.trust_env = False


def token_of(result):
    if "access_token" not in result:
        raise SystemExit(f"no token: {result}")
    return result["access_token"]


def verified(token, audience):
    """The claims, if the signature is by a key that the login server publishes."""
    found = requests.get(f"{authority}/v2.0/.well-known/openid-configuration").json()
    keys = jwt.PyJWKSet.from_dict(requests.get(found["jwks_uri"]).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key.key, algorithms=["RS256"], audience=audience)


def approve(code):
    answer = direct.post(f"{given['control']}/devices/{code}/approve")
    answer.raise_for_status()


# The application: by secret, and by certificate with each thumbprint.
read = {}
certificate = given["certificate"]
sha1 = x509.load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA1()).hex()
credentials = {
    "secret": given["client_secret"],
    "certificate": {"private_key": certificate, "public_certificate": certificate},
    "certificate by sha1": {"private_key": certificate, "thumbprint": sha1},
}
for name, credential in credentials.items():
    # The library's option for login servers that it does not know; it would ask Microsoft about this one.
    app = msal.ConfidentialClientApplication(
        client_id, authority=authority, client_credential=credential, instance_discovery=False
    )
    claims = verified(token_of(app.acquire_token_for_client(app_scope)), "https://api.partnercenter.microsoft.com")
    read[name] = [claims["appid"], claims["idtyp"]]

# A user, by device code; then by the refresh token.
public = msal.PublicClientApplication(client_id, authority=authority)
flow = public.initiate_device_flow(SCOPES)
approve(flow["user_code"])
result = public.acquire_token_by_device_flow(flow)
claims = verified(token_of(result), "https://api.partnercenter.microsoft.com")
read["device code"] = [claims["upn"], claims["amr"], result["id_token_claims"]["preferred_username"]]
again = public.acquire_token_silent(SCOPES, public.get_accounts()[0], force_refresh=True)
read["refresh token"] = token_of(again) != token_of(result)

# A user, by a browser: authorization code with PKCE.
app = msal.ConfidentialClientApplication(client_id, authority=authority, client_credential=given["client_secret"])
flow = app.initiate_auth_code_flow(SCOPES, redirect_uri="http://localhost:8400", response_mode="query")
page = requests.get(flow["auth_uri"], allow_redirects=False)
answer = dict(requests.utils.urlparse(page.headers["location"])._asdict())["query"]
answer = dict(pair.split("=", 1) for pair in answer.split("&"))
result = app.acquire_token_by_auth_code_flow(flow, answer)
read["authorization code"] = verified(result["id_token"], client_id)["preferred_username"]
token_of(result)
second = app.acquire_token_by_authorization_code(
    answer["code"], SCOPES, redirect_uri="http://localhost:8400", data={"code_verifier": flow["code_verifier"]}
)
read["authorization code, again"] = second["error_codes"]


# The Partner Center client. Its own device code needs a keyring, which a test machine lacks; the same credential without.
class WithoutKeyring(AuthInfo):
    def __init__(self):
        super().__init__(enable_cache=False)
        prompt = lambda uri, code, expires: threading.Thread(target=approve, args=[code]).start()
        self.credential = DeviceCodeCredential(client_id=client_id, tenant_id=tenant, prompt_callback=prompt)
        self.credential.authenticate(scopes=SCOPES)

    def _get_token(self):
        return self.credential.get_token(SCOPES[0]).token


identity = WithoutKeyring()
tools, api = PartnerTools(identity), ApiClient(identity)
customers = tools.customer.get_customers()
read["customers"] = sorted(customer.companyProfile.companyName for customer in customers)
read["qualifications"] = {
    customer.companyProfile.companyName: [
        [entry["qualification"], entry["vettingStatus"]]
        for entry in api.get(f"customers/{customer.id}/qualifications")
    ]
    for customer in customers
}
print(json.dumps(read))
