-- A node says whom it has.
--
-- Before the era is open, nothing is told to anyone: all nodes put back what was there before. Afterwards a listed
-- session that is not here was given up for lost: it comes anew.
--
-- ARGV from 5: for each session its peer, epoch, place or '', visit.
-- Answers DONE, the era or '', a list of outcome and number for each session, and everyone if one got a new place.
-- Outcomes: DONE 0 (as it was said), NEWER epoch, BACK place (it has another place).
if gone() then
  return { GONE }
end
local era = redis.call('GET', ERA)

local function put_back(peer, epoch, place, visit)
  write_seat(peer, { epoch = epoch, place = place, node = NODE, visit = visit })
  redis.call('SADD', INDEX, entry(peer))
  if place then
    list(peer, place)
  end
end

local function say(peer, epoch, place, visit)
  local seat = seat_of(peer)
  if seat and seat.epoch > epoch then
    if not era and place and not seat.place then
      -- The older one said it later. The newer one inherited its place.
      seat.place = place
      write_seat(peer, seat)
      list(peer, place)
    end
    return NEWER, seat.epoch
  end
  local known = seat and seat.place
  if not era or not place or known == place then
    put_back(peer, epoch, place or known, visit)
    return DONE, 0
  end
  if known and seat.epoch == epoch then
    return BACK, known
  end
  if known then
    unlist(peer, known)
  end
  local new = tick()
  put_back(peer, epoch, new, visit)
  tell_joined(peer, new)
  return BACK, new
end

local highest = tonumber(redis.call('GET', CLOCK)) or 0
for i = 5, #ARGV, 4 do
  highest = math.max(highest, tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]) or 0)
end
redis.call('SET', CLOCK, text(highest))

local outcomes, moved = {}, false
for i = 5, #ARGV, 4 do
  local outcome, number = say(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3])
  table.insert(outcomes, outcome)
  table.insert(outcomes, number)
  moved = moved or outcome == BACK
end
return { DONE, era or '', outcomes, moved and members() or {} }
