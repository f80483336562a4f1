-- A token bucket, kept as the time at which it is full again (the generic cell rate algorithm).
-- KEYS: 1 bucket. ARGV: 1 microseconds between events, 2 events at once, 3 '1' to count one. Answers 1 if one passes.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = tonumber(redis.call('GET', KEYS[1])) or now
local debt = math.max(full - now, 0) + ARGV[1]
if debt > ARGV[1] * ARGV[2] then
  return 0
end
if ARGV[3] == '1' then
  redis.call('SET', KEYS[1], string.format('%.0f', now + debt), 'PX', string.format('%.0f', math.ceil(debt / 1000)))
end
return 1
