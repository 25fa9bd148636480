"""The runtime of Python handlers.

It imports the function that _HANDLER names and hands it one event of the Runtime API after the
other. What handlers can observe is Lambda's: the context, the error documents, the format of logs.
"""
import decimal
import http.client
import importlib
import json
import logging
import os
import re
import sys
import time
import traceback

PREFIX = "/2018-06-01/runtime"
HERE = os.path.abspath(__file__)


class RuntimeFault(Exception):
    """A fault with the name that Lambda gives it."""

    def __init__(self, kind, message, trace=()):
        super().__init__(message)
        self.kind = kind
        self.trace = list(trace)


class API:
    """The Runtime API over one connection that is kept."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address)

    def call(self, method, path, body=None, headers=None):
        self.connection.request(method, PREFIX + path, body=body, headers=headers or {})
        response = self.connection.getresponse()
        return response.status, response.headers, response.read()

    def next(self):
        status, headers, body = self.call("GET", "/invocation/next")
        if status != 200:
            sys.exit(f"GET next: {status} {body!r}")
        return headers, body

    def post(self, path, body, headers=None):
        status, _, answer = self.call("POST", path, body, {"Content-Type": "application/json", **(headers or {})})
        if status != 202:
            # After a refusal (an answer that is too large, say) the host expects nothing good of
            # this process.
            sys.exit(f"POST {path}: {status} {answer!r}")


# ---- the context


class CognitoIdentity:
    __slots__ = ["cognito_identity_id", "cognito_identity_pool_id"]

    def __init__(self, doc):
        self.cognito_identity_id = doc.get("cognitoIdentityId")
        self.cognito_identity_pool_id = doc.get("cognitoIdentityPoolId")

    def __repr__(self):
        return (f"CognitoIdentity([cognito_identity_id={self.cognito_identity_id},"
                f"cognito_identity_pool_id={self.cognito_identity_pool_id}])")


class Client:
    __slots__ = ["installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"]

    def __init__(self, doc):
        for name in self.__slots__:
            setattr(self, name, doc.get(name))


class ClientContext:
    __slots__ = ["custom", "env", "client"]

    def __init__(self, doc):
        self.custom = doc.get("custom")
        self.env = doc.get("env")
        self.client = Client(doc["client"]) if doc.get("client") else None


class LambdaContext:
    def __init__(self, headers):
        def parsed(name, make):
            text = headers.get(name)
            return make(json.loads(text)) if text else None

        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = headers.get("Lambda-Runtime-Invoked-Function-Arn")
        self.tenant_id = headers.get("Lambda-Runtime-Aws-Tenant-Id")
        self.client_context = parsed("Lambda-Runtime-Client-Context", ClientContext)
        self.identity = parsed("Lambda-Runtime-Cognito-Identity", CognitoIdentity) or CognitoIdentity({})
        self._epoch_deadline_time_in_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self):
        return max(int(self._epoch_deadline_time_in_ms - time.time() * 1000), 0)

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        return (f"LambdaContext([aws_request_id={self.aws_request_id},log_group_name={self.log_group_name},"
                f"log_stream_name={self.log_stream_name},function_name={self.function_name},"
                f"memory_limit_in_mb={self.memory_limit_in_mb},function_version={self.function_version},"
                f"invoked_function_arn={self.invoked_function_arn},client_context={self.client_context},"
                f"identity={self.identity},tenant_id={self.tenant_id}])")


# ---- logs


class RequestFilter(logging.Filter):
    """Gives every record the id of the request in progress."""

    request_id = None

    def filter(self, record):
        record.aws_request_id = RequestFilter.request_id or ""
        return True


def set_up_logging():
    handler = logging.StreamHandler(sys.stdout)
    formatter = logging.Formatter("[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(RequestFilter())
    logging.getLogger().addHandler(handler)


# ---- errors


def own_frames(trace):
    """The frames of a traceback from the user's code on."""
    frames = traceback.extract_tb(trace)
    while frames and (os.path.abspath(frames[0].filename) == HERE or "importlib" in frames[0].filename):
        frames = frames[1:]
    return traceback.format_list(frames)


def describe(error, request_id):
    if isinstance(error, RuntimeFault):
        kind, trace = error.kind, error.trace
    else:
        kind, trace = type(error).__name__, own_frames(error.__traceback__)
    return {"errorMessage": str(error), "errorType": kind, "requestId": request_id, "stackTrace": trace}


def log_error(doc):
    text = f"[ERROR] {doc['errorType']}: {doc['errorMessage']}\n"
    if doc["stackTrace"]:
        text += "Traceback (most recent call last):\n" + "".join(doc["stackTrace"])
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def error_type_header(doc):
    # The service knows these names only; any other stays in the body.
    known = re.fullmatch(r"(Runtime|Function)\.[A-Z][a-zA-Z]+", doc["errorType"])
    return {"Lambda-Runtime-Function-Error-Type": doc["errorType"]} if known else {}


# ---- the handler


def load_handler(name):
    try:
        module_name, function_name = name.rsplit(".", 1)
    except ValueError as e:
        raise RuntimeFault("Runtime.MalformedHandlerName", f"Bad handler '{name}': {e}") from None
    module_name = module_name.replace("/", ".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as e:
        raise RuntimeFault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {e}") from None
    except SyntaxError as e:
        trace = [f'  File "{e.filename}" Line {e.lineno}\n    {(e.text or "").strip()}\n']
        raise RuntimeFault("Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {e}", trace) from None
    handler = getattr(module, function_name, None)
    if handler is None:
        raise RuntimeFault("Runtime.HandlerNotFound", f"Handler '{function_name}' missing on module '{module_name}'")
    return handler


def plain(o):
    """o with decimals as floats, as Lambda answers them."""
    if isinstance(o, decimal.Decimal):
        return int(o) if o == o.to_integral_value() and o.as_tuple().exponent >= 0 else float(o)
    if isinstance(o, dict):
        return {k: plain(v) for k, v in o.items()}
    if isinstance(o, (list, tuple)):
        return [plain(v) for v in o]
    return o


def marshal(result):
    if isinstance(result, bytes):
        return result
    try:
        # Until Python 3.12 Lambda's answers were ASCII.
        return json.dumps(plain(result), ensure_ascii=sys.version_info < (3, 12)).encode("utf-8")
    except Exception as e:
        raise RuntimeFault("Runtime.MarshalError", f"Unable to marshal response: {e}") from None


def unmarshal(body):
    try:
        return json.loads(body)
    except Exception as e:
        raise RuntimeFault("Runtime.UnmarshalError", f"Unable to unmarshal input: {e}") from None


def serve(api, handler):
    while True:
        headers, body = api.next()
        request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        RequestFilter.request_id = request_id
        if headers.get("Lambda-Runtime-Trace-Id"):
            os.environ["_X_AMZN_TRACE_ID"] = headers["Lambda-Runtime-Trace-Id"]
        try:
            answer = marshal(handler(unmarshal(body), LambdaContext(headers)))
        except Exception as e:
            doc = describe(e, request_id)
            log_error(doc)
            sys.stdout.flush()
            api.post(f"/invocation/{request_id}/error", json.dumps(doc), error_type_header(doc))
        else:
            sys.stdout.flush()
            api.post(f"/invocation/{request_id}/response", answer)


def main():
    root = os.environ["LAMBDA_TASK_ROOT"]
    sys.path[0] = root  # in place of this file's folder
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # into a pipe, print would gather kilobytes
    set_up_logging()
    api = API(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        handler = load_handler(os.environ["_HANDLER"])
    except Exception as e:
        doc = describe(e, "")
        log_error(doc)
        sys.stdout.flush()
        api.post("/init/error", json.dumps(doc), error_type_header(doc))
        sys.exit(1)
    serve(api, handler)


if __name__ == "__main__":
    main()
