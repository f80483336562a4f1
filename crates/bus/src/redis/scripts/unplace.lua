-- A session gives up its place and stays.
-- ARGV: 5 peer, 6 epoch. Answers DONE, 1 if it had one.
local bar = barred()
if bar then
  return { bar }
end
local peer, epoch = ARGV[5], tonumber(ARGV[6])
local seat = seat_of(peer)
if not seat or seat.epoch ~= epoch or not seat.place then
  return { DONE, 0 }
end
give_up(peer, seat)
seat.place = nil
write_seat(peer, seat)
return { DONE, 1 }
