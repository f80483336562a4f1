-- Sessions of a dead node end. KEYS 3, 4 and ARGV 2 are the dead node's.
-- ARGV: 5 the beat at which it died, then peers. Answers DONE, how many; BACK if it came back.
if redis.call('GET', FATE) ~= '-' .. ARGV[5] then
  return { BACK }
end
local buried = 0
for i = 6, #ARGV do
  local peer = ARGV[i]
  local seat = seat_of(peer)
  if seat and seat.node == NODE then
    redis.call('HDEL', SEATS, peer)
    if seat.place then
      give_up(peer, seat)
    end
    buried = buried + 1
  end
  redis.call('SREM', INDEX, entry(peer))
end
return { DONE, buried }
