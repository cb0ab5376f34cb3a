"""Recipes for Conclave hosts in Python: needs grpcio and protobuf, nothing else.

A recipe is an object with name, version, summary, services (their full names),
config (the full name of a message, or "") and `async def open(env)`, which
returns a handler for each service: an object with an async method for each rpc,
or an async generator where the rpc streams. It may have validate(config), which
raises ValueError("field: what is wrong"), async check(), and async close().
"""
import asyncio
import collections
import datetime
import json
import logging
import os
import pkgutil
import sys
import threading
import unicodedata
import urllib.parse

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

COOKIE = "CONCLAVE_PLUGIN"
DOMAIN = "conclave"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
# Waiting calls are cheap; what a host sends is bounded by the host.
CHANNEL = (("grpc.ssl_target_name_override", "localhost"), ("grpc.default_authority", "localhost"))

Caller = collections.namedtuple("Caller", "session lease ttl owner namespace identity")


class Error(Exception):
    """Ends a call: a grpc.StatusCode, a reason for programs, a text for people."""

    def __init__(self, code, reason, text):
        super().__init__(f"{reason}: {text}")
        self.code, self.reason = code, reason


class Types:
    """The messages of a package, as attributes: Types(pool, "acme.seats.v1").Take."""

    def __init__(self, pool, package):
        self._pool, self._package = pool, package

    def __getattr__(self, name):
        descriptor = self._pool.FindMessageTypeByName(f"{self._package}.{name}")
        if hasattr(message_factory, "GetMessageClass"):
            return message_factory.GetMessageClass(descriptor)
        return message_factory.MessageFactory(self._pool).GetPrototype(descriptor)


def load(data):
    """Returns a pool with the files of an encoded FileDescriptorSet."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def resource(name):
    """Returns a file that stands beside this one, also inside a zipapp."""
    return pkgutil.get_data(__name__, name)


_wire = load(resource("protocol.binpb"))
_control, etcd = Types(_wire, "conclave.plugin.v1"), Types(_wire, "etcdserverpb")
_own = load(resource("descriptors.binpb"))


def types(package):
    """Returns the messages of one of the recipe's own packages."""
    return Types(_own, package)


def caller(context):
    """Returns the caller of a call with a session, or None."""
    meta = dict(context.invocation_metadata())
    if not meta.get("conclave-lease"):
        return None
    return Caller(meta.get("conclave-session", ""), int(meta["conclave-lease"], 16), int(meta.get("conclave-ttl") or 0),
                  urllib.parse.unquote_plus(meta.get("conclave-owner", "")), meta.get("conclave-namespace", ""), meta.get("conclave-identity", ""))


def namespace(context, requested):
    """Returns the namespace that a call is about."""
    who, ns = caller(context), requested or "default"
    if who and who.namespace != ns:
        raise Error(grpc.StatusCode.INVALID_ARGUMENT, "invalid_namespace", f'namespace: is "{ns}", and the session\'s is "{who.namespace}"')
    return ns


def _check(field, text, segments):
    parts, problem = text.split("/"), None
    if not text:
        problem = "is empty"
    elif len(parts) > segments:
        problem = f"has {len(parts)} segments, the limit is {segments}"
    elif len(text.encode()) > 1024 or any(len(p.encode()) > 255 for p in parts):
        problem = "is longer than 1024 bytes, or than 255 in a segment"
    elif any(p in ("", ".", "..") for p in parts):
        problem = 'has a segment that is empty, "." or ".."'
    elif any(unicodedata.category(c) == "Cc" for c in text):
        problem = "has a control character"
    if problem:
        raise Error(grpc.StatusCode.INVALID_ARGUMENT, "invalid_" + field, f"{field}: {problem}")


def _escape(text):
    # What Python leaves as it is, is what Conclave does, but for "_" at the beginning.
    escaped = urllib.parse.quote(text, safe="")
    return "%5F" + escaped[1:] if escaped.startswith("_") else escaped


class Env:
    """What a recipe is given: instance, config, log, and etcd's kv, watch and lease.

    A call that waits ends with asyncio.CancelledError. If stopping is true, it is
    the host that ends it: leave its place in line, the caller comes again."""

    stopping = False

    def __init__(self, instance, config, log, channel):
        self.instance, self.config, self.log = instance, config, log
        for name in ("KV", "Watch", "Lease"):
            setattr(self, name.lower(), _stub(channel, _wire.FindServiceByName("etcdserverpb." + name)))

    def key(self, ns, name):
        """Returns the beginning of a name's keys, with a delimiter at its end."""
        _check("namespace", ns, 1)
        _check("name", name, 8)
        return f"/conclave/{_escape(ns)}/{self.instance}/{_escape(name)}/".encode()


def _stub(channel, service):
    stub, cls = type(service.name, (), {})(), Types(_wire, service.file.package)
    for m in service.methods:
        kind = getattr(channel, ("stream_" if m.client_streaming else "unary_") + ("stream" if m.server_streaming else "unary"))
        setattr(stub, m.name, kind(f"/{service.full_name}/{m.name}", lambda r: r.SerializeToString(), getattr(cls, m.output_type.name).FromString))
    return stub


def prefix_end(prefix):
    """Returns the end of the range of all keys that begin with prefix."""
    return prefix[:-1] + bytes([prefix[-1] + 1])  # keys of recipes end with "/"


def _of_etcd(err):
    """What a caller is told when etcd refuses."""
    code, text = err.code(), err.details() or ""
    if "lease not found" in text:
        return Error(grpc.StatusCode.FAILED_PRECONDITION, "session_expired", "the session has ended and with it all that it owned; open another")
    if code == grpc.StatusCode.UNAVAILABLE:
        return Error(code, "no_quorum", "etcd has no quorum, or cannot be reached")
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Error(code, "no_space", "etcd takes no more, or not so much at a time")
    if code == grpc.StatusCode.PERMISSION_DENIED:
        return Error(code, "not_permitted", "etcd refuses it to the recipe")
    return None


class _Json(logging.Formatter):
    def format(self, record):
        at = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        level = next((k for k, v in LEVELS.items() if record.levelno <= v), "error")
        text = record.getMessage() + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")
        return json.dumps({"@level": level, "@message": text, "@timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), **getattr(record, "fields", {})})


class _Plugin:
    """The process: the control service, and the recipe's own."""

    def __init__(self, recipe, log):
        self.recipe, self.log, self.handlers = recipe, log, {}
        self.draining, self.calls, self.stopped = False, {}, asyncio.Event()

    async def Describe(self, request, context):
        return _control.DescribeResponse(description=describe(self.recipe))

    async def Validate(self, request, context):
        self._config(request.config)
        return _control.ValidateResponse()

    def _config(self, data):
        if not self.recipe.config:
            return None
        package, _, name = self.recipe.config.rpartition(".")
        config = getattr(types(package), name).FromString(data)
        try:
            if hasattr(self.recipe, "validate"):
                self.recipe.validate(config)
        except ValueError as err:
            raise Error(grpc.StatusCode.INVALID_ARGUMENT, "invalid_" + str(err).partition(":")[0], str(err)) from err
        return config

    async def Open(self, request, context):
        if self.handlers:
            raise Error(grpc.StatusCode.FAILED_PRECONDITION, "invalid_request", "the recipe is open already")
        self.log.setLevel(LEVELS.get(request.log_level, logging.INFO))
        creds = grpc.ssl_channel_credentials(_pem("PLUGIN_CLIENT_CERT"), _pem("CONCLAVE_PLUGIN_KEY"), _pem("CONCLAVE_PLUGIN_CERT"))
        channel = grpc.aio.secure_channel("unix:" + request.etcd_address, creds, options=CHANNEL)
        self.env = Env(request.instance, self._config(request.config), self.log, channel)
        self.handlers = await self.recipe.open(self.env)
        self.log.debug("recipe opened")
        return _control.OpenResponse(services=sorted(self.handlers))

    async def Check(self, request, context):
        degraded = await self.recipe.check() if hasattr(self.recipe, "check") else None
        return _control.CheckResponse(degraded=degraded or "")

    async def Collect(self, request, context):
        return _control.CollectResponse()

    async def SetLogLevel(self, request, context):
        self.log.setLevel(LEVELS.get(request.level, logging.INFO))
        return _control.SetLogLevelResponse()

    async def Drain(self, request, context):
        self.draining = True
        if self.handlers:
            self.env.stopping = True
        for task, streams in list(self.calls.items()):
            if streams:
                task.cancel()
        if self.calls:
            await asyncio.wait(list(self.calls), timeout=request.timeout.ToTimedelta().total_seconds())
        for task in list(self.calls):
            task.cancel()
        if self.handlers and hasattr(self.recipe, "close"):
            await self.recipe.close()
        return _control.DrainResponse()

    def service(self, handler):
        """Finds the method of a call: the control service's, or the recipe's."""
        service, _, name = handler.method.lstrip("/").partition("/")
        if service == "plugin.GRPCController" and name == "Shutdown":
            return grpc.unary_unary_rpc_method_handler(self._shutdown)
        pool, target, counted = (_wire, self, False) if service == "conclave.plugin.v1.ControlService" else (_own, self.handlers.get(service), True)
        if target is None or not hasattr(target, name):
            return None
        method = pool.FindServiceByName(service).FindMethodByName(name)
        cls = getattr(Types(pool, method.input_type.file.package), method.input_type.name)
        wrapped = (self._stream if method.server_streaming else self._unary)(getattr(target, name), counted)
        make = getattr(grpc, ("stream_" if method.client_streaming else "unary_") + ("stream" if method.server_streaming else "unary") + "_rpc_method_handler")
        return make(wrapped, cls.FromString, lambda r: r.SerializeToString())

    async def _shutdown(self, request, context):
        self.stopped.set()
        return b""

    def _unary(self, method, counted):
        async def call(request, context):
            answer = None
            async for answer in self._run(method, request, context, counted, False):
                pass
            return answer
        return call

    def _stream(self, method, counted):
        async def call(request, context):
            async for answer in self._run(method, request, context, counted, True):
                yield answer
        return call

    async def _run(self, method, request, context, counted, streams):
        """Runs a call, and makes a status of every way in which it can end."""
        task, err = asyncio.current_task(), None
        restarting = Error(grpc.StatusCode.UNAVAILABLE, "recipe_restarting", "the recipe is stopping here; call again")
        if counted and self.draining:
            await _abort(context, restarting)
        if counted:
            self.calls[task] = streams
        try:
            if not streams:
                yield await method(request, context)
            else:
                async for answer in method(request, context):
                    yield answer
        except Error as e:
            err = e
        except grpc.aio.AioRpcError as e:
            err = _of_etcd(e)
            if err is None:
                self.log.error("etcd: %s: %s", e.code(), e.details())
        except asyncio.CancelledError:
            if not (counted and self.draining):
                raise
            err = restarting
        except grpc.aio.AbortError:
            raise
        except Exception:
            self.log.exception("a call failed")
        else:
            return
        finally:
            self.calls.pop(task, None)
        await _abort(context, err or Error(grpc.StatusCode.INTERNAL, "internal", "the recipe failed"))


async def _abort(context, err):
    rpc = Types(_wire, "google.rpc")
    status = rpc.Status(code=err.code.value[0], message=str(err))
    status.details.add().Pack(rpc.ErrorInfo(reason=err.reason, domain=DOMAIN))
    await context.abort(err.code, str(err), (("grpc-status-details-bin", status.SerializeToString()),))


class _Router(grpc.GenericRpcHandler):
    def __init__(self, plugin):
        self.plugin = plugin

    def service(self, details):
        return self.plugin.service(details)


def _pem(name):
    return os.environ[name].encode()


def describe(recipe):
    """Returns what a manifest says, as a Description."""
    d = _control.Description(name=recipe.name, version=recipe.version, summary=recipe.summary, protocol=1,
                             services=sorted(recipe.services), config=recipe.config, language="python", host_socket=True)
    d.descriptors.ParseFromString(resource("descriptors.binpb"))
    return d


async def _serve(recipe, log):
    plugin = _Plugin(recipe, log)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Router(plugin),))
    creds = grpc.ssl_server_credentials([(_pem("CONCLAVE_PLUGIN_KEY"), _pem("CONCLAVE_PLUGIN_CERT"))], _pem("PLUGIN_CLIENT_CERT"), True)
    path = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "python")
    server.add_secure_port("unix:" + path, creds)
    await server.start()
    print(f"1|1|unix|{path}|grpc|", flush=True)

    def host_gone():
        while os.read(0, 4096):  # the host says nothing there: its end is the host's
            pass
        os._exit(0 if plugin.draining else 3)

    threading.Thread(target=host_gone, daemon=True).start()
    await plugin.stopped.wait()
    await server.stop(0.1)  # for the answer to Shutdown
    sys.stderr.flush()
    os._exit(0)  # a thread still reads standard input


def serve(recipe):
    """The whole main of a plugin."""
    if os.environ.get(COOKIE) != "recipe":
        if "--describe=binary" in sys.argv[1:]:
            sys.stdout.buffer.write(describe(recipe).SerializeToString())
        elif "--describe" in sys.argv[1:]:
            print(json_format.MessageToJson(describe(recipe), descriptor_pool=_wire))
        else:
            sys.exit(f"{recipe.name} {recipe.version}: {recipe.summary}\n\nThis program is a plugin of Conclave and is started by a host:\n\n"
                     "    conclave dev --plugin PATH     try it in a host of its own\n    conclave plugin add PATH       add it to a host\n")
        return
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(_Json())
    log = logging.getLogger("conclave")
    log.addHandler(out)
    log.setLevel(logging.INFO)
    asyncio.run(_serve(recipe, log))
