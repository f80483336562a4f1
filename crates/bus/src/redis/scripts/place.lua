-- A session takes a place, or looks around again from the one that it has.
-- Whoever calls it reads the order in the same transaction.
-- ARGV: 5 peer, 6 epoch, 7 'new' or 'same'. Answers DONE, place.
local bar = barred()
if bar then
  return { bar }
end
local peer, epoch = ARGV[5], tonumber(ARGV[6])
local seat = seat_of(peer)
if not seat or seat.epoch ~= epoch then
  return { NEWER }
end
if seat.place and ARGV[7] == 'same' then
  list(peer, seat)
  return { DONE, seat.place }
end
if seat.place then
  give_up(peer, seat)
end
seat.place = tick()
write_seat(peer, seat)
list(peer, seat)
tell_joined(peer, seat)
return { DONE, seat.place }
