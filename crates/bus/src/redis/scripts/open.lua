-- Opens the era of a partition, once all nodes had time to say whom they have.
-- KEYS: 1 era, 2 opening, 3 fate of the node. ARGV: 1 that time in microseconds. Answers DONE, era; or why not.
if string.sub(redis.call('GET', KEYS[3]) or '', 1, 1) == '-' then
  return { 2 }
end
local era = redis.call('GET', KEYS[1])
if era then
  return { 0, era }
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local since = tonumber(redis.call('GET', KEYS[2]))
if not since or since > now then
  since = now
  redis.call('SET', KEYS[2], string.format('%.0f', now))
end
if now - since < tonumber(ARGV[1]) then
  return { 1 }
end
era = string.format('%.0f', now)
redis.call('SET', KEYS[1], era)
redis.call('DEL', KEYS[2])
return { 0, era }
