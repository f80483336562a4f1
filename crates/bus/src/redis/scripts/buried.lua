-- All sessions of a dead node are ended. KEYS: 1 condemned. ARGV: 1 the node, 2 the beat at which it died.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
