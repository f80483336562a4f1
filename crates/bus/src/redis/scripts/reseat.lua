-- A node says whom it has.
--
-- Before the era is open, nothing is told to anyone: all nodes put back what was there before. Afterwards a session that
-- is not here was given up for lost: if it was listed, it comes anew.
--
-- ARGV from 5: for each session its peer, epoch, place or '', '1' if it is listed, visit.
-- Answers DONE, the era or '', a list of outcome and number for each session, and everyone if one got a new place.
-- Outcomes: DONE 0 (as it was said), DONE 1 (it has no place any more), NEWER epoch, BACK place (it has another place).
if gone() then
  return { GONE }
end
local era = redis.call('GET', ERA)

local function put_back(peer, epoch, place, visit)
  local seat = { epoch = epoch, place = place, node = NODE, visit = visit }
  write_seat(peer, seat)
  redis.call('SADD', INDEX, entry(peer))
  return seat
end

local function say(peer, epoch, place, listed, visit)
  local seat = seat_of(peer)
  local known = seat and seat.place
  if seat and seat.epoch > epoch then
    if not era and place and not known then
      -- The older one said it later. The newer one inherits its place.
      seat.place = place
      write_seat(peer, seat)
    end
    return NEWER, seat.epoch
  end
  if not era then
    if known then
      hide(peer, seat)
    end
    local back = put_back(peer, epoch, place or known, visit)
    if listed then
      list(peer, back)
    end
    return DONE, 0
  end
  if not place or known == place then
    put_back(peer, epoch, known, visit)
    return DONE, 0
  end
  if known and seat.epoch == epoch then
    return BACK, known
  end
  if known then
    give_up(peer, seat)
  end
  if not listed then
    if not redis.call('GET', FATE) then
      -- Nobody has told the others yet that this place is given up.
      tell_left(peer, place)
    end
    put_back(peer, epoch, nil, visit)
    return DONE, 1
  end
  local new = put_back(peer, epoch, tick(), visit)
  list(peer, new)
  tell_joined(peer, new)
  return BACK, new.place
end

local highest = tonumber(redis.call('GET', CLOCK)) or 0
for i = 5, #ARGV, 5 do
  highest = math.max(highest, tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]) or 0)
end
redis.call('SET', CLOCK, text(highest))

local outcomes, moved = {}, false
for i = 5, #ARGV, 5 do
  local epoch, place = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local outcome, number = say(ARGV[i], epoch, place, ARGV[i + 3] == '1', ARGV[i + 4])
  table.insert(outcomes, outcome)
  table.insert(outcomes, number)
  moved = moved or outcome == BACK
end
return { DONE, era or '', outcomes, moved and redis.call('ZRANGE', ORDER, 0, -1) or {} }
