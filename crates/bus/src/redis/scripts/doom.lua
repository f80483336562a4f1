-- Bars a dead node from a partition, unless it came back since, and answers whom it has there.
-- KEYS: 1 fate, 2 index. ARGV: 1 the beat at which it died, 2 how many at most, 3 seconds for which it is remembered.
-- Answers DONE and entries, or BACK.
local back = string.match(redis.call('GET', KEYS[1]) or '', '^%+(%d+)$')
if back and tonumber(back) > tonumber(ARGV[1]) then
  return { 4 }
end
redis.call('SET', KEYS[1], '-' .. ARGV[1], 'EX', ARGV[3])
return { 0, redis.call('SRANDMEMBER', KEYS[2], ARGV[2]) }
