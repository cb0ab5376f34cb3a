"""gate: one holder, and others who wait in a stream until it has left."""
import conclave_plugin as conclave

pb = conclave.types("example.gate.v1")
SERVICE = "example.gate.v1.GateService"


class Service:
    def __init__(self, env):
        self.env = env

    def holder(self, request, context):
        return self.env.key(conclave.caller(context).namespace, request.name) + b"holder"

    async def Enter(self, request, context):
        who = conclave.caller(context)
        await self.env.kv.Put(conclave.etcd.PutRequest(key=self.holder(request, context), value=who.owner.encode(), lease=who.lease))
        return pb.EnterResponse()

    async def Leave(self, request, context):
        await self.env.kv.DeleteRange(conclave.etcd.DeleteRangeRequest(key=self.holder(request, context)))
        return pb.EnterResponse()

    async def List(self, request, context):
        who, holder = conclave.caller(context), self.holder(request, context)
        place = holder + b"/%x" % who.lease
        await self.env.kv.Put(conclave.etcd.PutRequest(key=place, lease=who.lease))
        watch = self.env.watch.Watch()
        try:
            await watch.write(conclave.etcd.WatchRequest(create_request=conclave.etcd.WatchCreateRequest(key=holder)))
            async for _ in watch:
                if not (await self.env.kv.Range(conclave.etcd.RangeRequest(key=holder))).kvs:
                    yield pb.ListResponse(owners=[who.owner])
                    return
        finally:
            watch.cancel()
            if not self.env.stopping:
                await self.env.kv.DeleteRange(conclave.etcd.DeleteRangeRequest(key=place))


class Recipe:
    name, version, summary = "gate", "0.1.0", "One holder, and others who wait"
    services, config = [SERVICE], ""

    async def open(self, env):
        return {SERVICE: Service(env)}


def main():
    conclave.serve(Recipe())
