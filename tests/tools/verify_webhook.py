"""Verifies a webhook's signature with the library `standardwebhooks`.

Standard input: {"secret", "body", "headers": {"webhook-id", "webhook-timestamp", "webhook-signature"}}. Prints the
body as it was understood; exits 1 if the signature does not hold.
"""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

given = json.load(sys.stdin)
try:
    print(json.dumps(Webhook(given["secret"]).verify(given["body"], given["headers"])))
except WebhookVerificationError as error:
    sys.exit(f"not verified: {error}")
