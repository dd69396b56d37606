"""Rate limits that replicas share: a bucket a caller in Redis, taken from in one step (Lua); with Redis' clock, so that theirs may differ."""

from __future__ import annotations

from attunement.storage.shared.link import RedisLink

_TAKE = """
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
local size, per_second = tonumber(ARGV[1]), tonumber(ARGV[2])
local had = redis.call('HMGET', KEYS[1], 'left', 'at')
local left = tonumber(had[1]) or size
left = math.min(size, left + math.max(0, at - (tonumber(had[2]) or at)) * per_second)
local wait = 0
if left >= 1 then left = left - 1 else wait = (1 - left) / per_second end
redis.call('HSET', KEYS[1], 'left', tostring(left), 'at', string.format('%.6f', at))
redis.call('PEXPIRE', KEYS[1], math.ceil(1000 * size / per_second) + 1000)
return tostring(wait)
"""


class SharedBuckets:
    """Buckets of `size` that fill `per_second`, in Redis."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._take = link.redis.register_script(_TAKE)

    def take(self, who: str, size: float, per_second: float) -> float | None:
        """0 when there was one to take, else the seconds until there is; None when Redis does not answer."""
        keys, values = [self._link.key("rate", who)], [size, per_second]
        found = self._link.call(lambda redis: self._take(keys=keys, args=values, client=redis), None)
        return None if found is None else float(found)
