-- A session is listed no more, and keeps its place.
-- ARGV: 5 peer, 6 epoch. Answers DONE.
local bar = barred()
if bar then
  return { bar }
end
local seat = seat_of(ARGV[5])
if seat and seat.place and seat.epoch == tonumber(ARGV[6]) then
  hide(ARGV[5], seat)
end
return { DONE }
