"""Quotas that a fleet shares: the recipe of the folder above, in Python.

Both write the same records and keep the same rules (../README.md), so hosts may
run either, and share one quota."""
import asyncio
import json
import secrets
import time

import grpc

import conclave_plugin as conclave

pb = conclave.types("example.ratelimit.v1")
SERVICE = "example.ratelimit.v1.RateLimitService"
MAX_TOKENS, MIN_WINDOW, MAX_WINDOW = 10**12, 100, 366 * 24 * 3600 * 1000
IDLE = 2.0  # seconds for which a host keeps tokens that nobody asks for


def now():
    return time.time_ns() // 1_000_000


def at(record, when):
    """The record as it is to be at a time: in the next window, if this one has ended."""
    return record if when < record["ends"] else restart(record, when)


def restart(record, when):
    start = when // record["window_ms"] * record["window_ms"]
    return {**record, "began": when, "ends": start + record["window_ms"], "spent": 0, "epoch": record["epoch"] + 1, "claim": ""}


def claim(record, need, block):
    """Takes a block out of what is free: the record as it is then, and how many tokens."""
    free = max(0, record["quota"] - record["spent"])
    if need > free:
        return record, 0
    got = max(need, min(block, (free + 7) // 8))
    return {**record, "spent": record["spent"] + got, "claim": secrets.token_hex(13)}, got


def invalid(field, text):
    return conclave.Error(grpc.StatusCode.INVALID_ARGUMENT, "invalid_" + field, f"{field}: {text}")


class Stock:
    """What this host holds of one quota: tokens of one window."""

    def __init__(self, key, name):
        self.key, self.name, self.claiming = key, name, asyncio.Lock()
        self.epoch, self.left, self.ends, self.used = 0, 0, 0, time.monotonic()
        self.recheck, self.free, self.quota = 0, 0, 0
        self.seen, self.rev = None, 0

    def take(self, n, when):
        """True and False are known without a look at etcd, None is not."""
        self.used = time.monotonic()
        if when >= self.ends:
            self.left = self.free = 0
            return None
        if self.left >= n:
            self.left -= n
            return True
        return False if when < self.recheck and self.left + self.free < n <= self.quota else None

    def into(self, record):
        if self.epoch != record["epoch"]:
            self.left = 0
        self.epoch, self.ends = record["epoch"], record["ends"]


class Service:
    def __init__(self, env):
        self.env, self.stocks = env, {}
        self.share = (env.config.block_percent if env.config else 0) or 5
        self.sweeper = asyncio.get_running_loop().create_task(self.sweep())

    def stock(self, request, context):
        place = (conclave.namespace(context, request.namespace), request.name)
        key = self.env.key(*place) + b"quota"
        return place, key

    async def Take(self, request, context):
        place, key = self.stock(request, context)
        n = request.tokens or 1
        if not 1 <= n <= MAX_TOKENS:
            raise invalid("tokens", f"is {n}, must be 1 to {MAX_TOKENS}")
        stock = self.stocks.setdefault(place, Stock(key, request.name))
        while True:
            known = stock.take(n, now())
            if known is None:
                async with stock.claiming:
                    known = stock.take(n, now())
                    if known is None:
                        known = await self.claim(stock, n)
            if known:
                return pb.TakeResponse(allowed=True)
            if known is False:
                answer = pb.TakeResponse()
                answer.retry_after.FromMilliseconds(max(0, stock.ends - now()))
                return answer

    async def claim(self, stock, n):
        """Brings a block, or the news that there is none; None: look again."""
        if not stock.rev:
            await self.read(stock)
        while True:
            when = now()
            record = at(stock.seen, when)
            need = n - stock.left if stock.epoch == record["epoch"] else n
            following, got = claim(record, max(1, need), max(1, record["quota"] * self.share // 100))
            if n > record["quota"] or when < record["began"] - record["window_ms"] or not got:
                return await self.refuse(stock, n)
            if await self.swap(stock, following):
                stock.into(following)
                stock.left += got
                stock.recheck = 0
                return None

    async def refuse(self, stock, n):
        """Says no on the word of etcd, not of what it said some time ago."""
        rev = stock.rev
        await self.read(stock)
        when = now()
        record = at(stock.seen, when)
        if stock.rev != rev or record["epoch"] != stock.seen["epoch"]:
            return None
        if n > record["quota"]:
            raise invalid("tokens", f"is {n}, and the quota is {record['quota']} a window")
        if when < record["began"] - record["window_ms"]:
            raise conclave.Error(grpc.StatusCode.UNAVAILABLE, "clock_skew", "the window begins in the future: a clock is wrong; SetQuota with restart begins a new window")
        stock.into(record)
        stock.free, stock.quota = max(0, record["quota"] - record["spent"]), record["quota"]
        stock.recheck = when + min(1000, record["window_ms"] // 20)
        return False

    async def read(self, stock):
        stock.rev = 0
        self.look(stock, (await self.env.kv.Range(conclave.etcd.RangeRequest(key=stock.key))).kvs)

    def look(self, stock, kvs):
        if not kvs:
            stock.rev = 0
            raise conclave.Error(grpc.StatusCode.NOT_FOUND, "not_found", f'quota "{stock.name}": is not set; SetQuota sets it')
        stock.seen, stock.rev = json.loads(kvs[0].value), kvs[0].mod_revision

    async def swap(self, stock, record):
        """Writes a record if the one that was seen still stands; else sees what does."""
        request = conclave.etcd.TxnRequest()
        request.compare.add(key=stock.key, target="MOD", result="EQUAL", mod_revision=stock.rev)
        request.success.add().request_put.key = stock.key
        request.success[0].request_put.value = json.dumps(record).encode()
        request.failure.add().request_range.key = stock.key
        try:
            answer = await self.env.kv.Txn(request)
        except grpc.aio.AioRpcError:
            # It may have been applied, or may be applied later. If the latest claim is
            # this one, it was; if not, its block counts as used.
            stock.rev = 0
            if not record["claim"]:
                raise
            await self.read(stock)
            return stock.seen.get("claim") == record["claim"]
        if answer.succeeded:
            stock.seen, stock.rev = record, answer.header.revision
            return True
        self.look(stock, answer.responses[0].response_range.kvs)
        return False

    async def give_back(self, stock):
        """Returns what is left. A second attempt could return it twice: there is none."""
        async with stock.claiming:
            epoch, left, stock.left = stock.epoch, stock.left, 0
            while left:
                if not stock.rev:
                    await self.read(stock)
                if stock.seen["epoch"] != epoch:
                    return
                if await self.swap(stock, {**stock.seen, "spent": stock.seen["spent"] - left, "claim": ""}):
                    return

    async def sweep_idle(self, idle):
        for place, stock in list(self.stocks.items()):
            if time.monotonic() - stock.used >= idle:
                del self.stocks[place]
                try:
                    await self.give_back(stock)
                except (conclave.Error, grpc.aio.AioRpcError) as err:
                    self.env.log.warning("tokens count as used until their window ends: %s", err)

    async def sweep(self):
        while True:
            await asyncio.sleep(1)
            await self.sweep_idle(IDLE)

    async def Status(self, request, context):
        place, key = self.stock(request, context)
        stock = Stock(key, request.name)
        await self.read(stock)
        record, mine = at(stock.seen, now()), self.stocks.get(place)
        answer = pb.StatusResponse(quota=record["quota"], claimed=record["spent"], kept_here=mine.left if mine and mine.epoch == record["epoch"] else 0)
        answer.window.FromMilliseconds(record["window_ms"])
        answer.began.FromMilliseconds(record["began"])
        answer.ends.FromMilliseconds(record["ends"])
        return answer

    async def SetQuota(self, request, context):
        _, key = self.stock(request, context)
        window = request.window.ToMilliseconds()
        if not 1 <= request.tokens <= MAX_TOKENS:
            raise invalid("tokens", f"is {request.tokens}, must be 1 to {MAX_TOKENS}")
        if not MIN_WINDOW <= window <= MAX_WINDOW:
            raise invalid("window", f"is {window} ms, must be 100 ms to 366 days")
        stock = Stock(key, request.name)
        while True:
            try:
                await self.read(stock)
                record = {**at(stock.seen, now()), "quota": request.tokens, "window_ms": window, "claim": ""}
                record = restart(record, now()) if request.restart else record
            except conclave.Error:
                record = restart({"v": 1, "quota": request.tokens, "window_ms": window, "epoch": now()}, now())
            try:
                if await self.swap(stock, record):
                    return pb.SetQuotaResponse()
            except conclave.Error:
                pass  # it was deleted meanwhile

    async def DeleteQuota(self, request, context):
        _, key = self.stock(request, context)
        await self.env.kv.DeleteRange(conclave.etcd.DeleteRangeRequest(key=key))
        return pb.DeleteQuotaResponse()


class Recipe:
    """What a host knows of it, and how it is opened."""

    name, version, summary = "ratelimit", "0.1.0", "Quotas that a fleet shares"
    services, config = [SERVICE], "example.ratelimit.v1.Config"

    def validate(self, config):
        if not 0 <= config.block_percent <= 100:
            raise ValueError(f"block_percent: is {config.block_percent}, must be 1 to 100")

    async def open(self, env):
        self.service = Service(env)
        return {SERVICE: self.service}

    async def close(self):
        """Gives back what this host has claimed and not handed out."""
        self.service.sweeper.cancel()
        await self.service.sweep_idle(0)


def main():
    conclave.serve(Recipe())
