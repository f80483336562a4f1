-- A new session of a peer becomes the live one. It inherits the place of the former one, hidden or as it was listed.
-- ARGV: 5 peer, 6 visit, 7 most sessions of the space or 0, 8 '1' if an inherited place stays listed.
-- Answers DONE, epoch, and of the former session: node, epoch, place or 0; or FULL.
local bar = barred()
if bar then
  return { bar }
end
local peer, visit = ARGV[5], ARGV[6]
local former = seat_of(peer)
local most = tonumber(ARGV[7])
if not former and most > 0 and redis.call('HLEN', SEATS) >= most then
  return { FULL }
end
local epoch = tick(former and former.epoch)
local seat = { epoch = epoch, place = former and former.place, node = NODE, visit = visit }
write_seat(peer, seat)
redis.call('SADD', INDEX, entry(peer))
if not former then
  return { DONE, epoch }
end
if former.place and hide(peer, former) == 1 and ARGV[8] == '1' then
  list(peer, seat)
end
return { DONE, epoch, former.node, former.epoch, former.place or 0 }
