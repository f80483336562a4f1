-- A session ends, unless a newer one took over.
-- ARGV: 5 peer, 6 epoch, 7 the place that its node knows of, or ''. Answers DONE, 1 if it had one.
if redis.call('GET', ERA) ~= KNOWN then
  return { CLOSED }
end
local peer, epoch = ARGV[5], tonumber(ARGV[6])
local seat = seat_of(peer)
if not (seat and seat.node == NODE and seat.epoch > epoch) then
  redis.call('SREM', INDEX, entry(peer))
end
if seat and seat.epoch > epoch then
  return { DONE, 0 }
end
local place = seat and seat.place
if seat then
  redis.call('HDEL', SEATS, peer)
elseif not gone() then
  -- Its seat was lost with the former era. Others may still believe that it is there.
  place = tonumber(ARGV[7])
end
if place then
  if seat then
    hide(peer, seat)
  end
  tell_left(peer, place)
end
return { DONE, place and 1 or 0 }
