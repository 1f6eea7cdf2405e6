"""What the schema cannot say: `idempotency_key` in the body and the header `Idempotency-Key` are one thing, so they
must be equal.

Cases that are meant to be valid and happen to have two different ones lose the header; that the server refuses two is tested
in crates/server/tests/api.rs. Cases that are meant to be invalid stay as they are.
"""

import schemathesis

HEADER = "Idempotency-Key"


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body if isinstance(case.body, dict) else {}
    if case.headers and HEADER in case.headers and body.get("idempotency_key") is not None and is_valid(case):
        if case.headers[HEADER] != body["idempotency_key"]:
            del case.headers[HEADER]


def is_valid(case):
    return case.meta is None or case.meta.generation.mode.is_positive
