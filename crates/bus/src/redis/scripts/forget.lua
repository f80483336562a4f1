-- Ends sessions that stand here as this node's although it has none such: a claim whose answer was lost, a release that
-- a failover undid. Young ones may be claims whose answer is on its way.
-- ARGV: 5 the youngest age in microseconds, then pairs of peer and the epoch of the session that the node has, or 0.
-- Answers DONE, how many.
if redis.call('GET', ERA) ~= KNOWN then
  return { CLOSED }
end
local latest, forgotten = now() - ARGV[5], 0
for i = 6, #ARGV, 2 do
  local peer, mine = ARGV[i], tonumber(ARGV[i + 1])
  local seat = seat_of(peer)
  if not seat or seat.node ~= NODE then
    redis.call('SREM', INDEX, entry(peer))
  elseif seat.epoch ~= mine and seat.epoch < latest then
    redis.call('SREM', INDEX, entry(peer))
    redis.call('HDEL', SEATS, peer)
    if seat.place then
      give_up(peer, seat)
    end
    forgotten = forgotten + 1
  end
end
return { DONE, forgotten }
