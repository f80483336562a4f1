-- A new session of a peer becomes the live one. It inherits the place of the former one, hidden.
-- ARGV: 5 peer, 6 visit. Answers DONE, epoch, and of the former session: node, epoch, place or 0.
local bar = barred()
if bar then
  return { bar }
end
local peer, visit = ARGV[5], ARGV[6]
local former = seat_of(peer)
local epoch = tick(former and former.epoch)
write_seat(peer, { epoch = epoch, place = former and former.place, node = NODE, visit = visit })
redis.call('SADD', INDEX, entry(peer))
if not former then
  return { DONE, epoch }
end
if former.place then
  hide(peer, former.place)
end
return { DONE, epoch, former.node, former.epoch, former.place or 0 }
