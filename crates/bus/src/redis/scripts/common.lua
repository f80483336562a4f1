-- What the scripts of a space (a mesh or a room) share; each of them is this text and then its own.
--
-- KEYS: 1 clock, 2 era, 3 fate and 4 index of the node, 5 seats, 6 order and 7 channel of the space; all in the space's
-- partition. ARGV: 1 the era that the node knows, 2 the node, 3 SPUBLISH or PUBLISH, 4 the space; then what each names.

local CLOCK, ERA, FATE, INDEX, SEATS, ORDER, CHANNEL = unpack(KEYS)
local KNOWN, NODE, PUBLISH, SPACE = unpack(ARGV)
local DONE, CLOSED, GONE, NEWER, BACK, FULL = 0, 1, 2, 3, 4, 5

-- Numbers are below 2^53; Lua's own way of writing them would round them.
local function text(number)
  return string.format('%.0f', number)
end

-- Microseconds since the Unix epoch.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- The next number of the partition, for epochs, places and departures. It follows the time, so that numbers also grow
-- when the clock was lost with all else; and `above`, should the time have been set back meanwhile.
local function tick(above)
  local last = tonumber(redis.call('GET', CLOCK)) or 0
  local number = math.max(last + 1, (above or 0) + 1, now())
  redis.call('SET', CLOCK, text(number))
  return number
end

-- Whether other nodes gave this one up for lost.
local function gone()
  return string.sub(redis.call('GET', FATE) or '', 1, 1) == '-'
end

-- Why this node may not change anything now: it has not said whom it has under this era, or was given up for lost.
local function barred()
  if redis.call('GET', ERA) ~= KNOWN then
    return CLOSED
  end
  return gone() and GONE
end

local function entry(peer)
  return SPACE .. '\n' .. peer
end

-- A seat is `epoch LF place LF node LF visit`, with an empty place if it is not listed. Names hold no line feed.
local function seat_of(peer)
  local value = redis.call('HGET', SEATS, peer)
  if not value then
    return nil
  end
  local epoch, place, node, visit = string.match(value, '^(%d+)\n(%d*)\n([^\n]*)\n(.*)$')
  return epoch and { epoch = tonumber(epoch), place = tonumber(place), node = node, visit = visit }
end

local function write_seat(peer, seat)
  local place = seat.place and text(seat.place) or ''
  redis.call('HSET', SEATS, peer, text(seat.epoch) .. '\n' .. place .. '\n' .. seat.node .. '\n' .. seat.visit)
end

-- A member as lists and news show it: `place SP peer`, and `LF profile` if it shows one, which is the rest of a visit
-- behind `since LF dialect`.
local function member(peer, seat)
  return text(seat.place) .. ' ' .. peer .. (string.match(seat.visit, '^[^\n]*\n[^\n]*(\n.*)$') or '')
end

-- The order holds members with their place, so that a list can be read without its scores, which Redis is slow to
-- write out.
local function list(peer, seat)
  redis.call('ZADD', ORDER, text(seat.place), member(peer, seat))
end

-- Answers 1 if it was listed.
local function hide(peer, seat)
  return redis.call('ZREM', ORDER, member(peer, seat))
end

local function tell_joined(peer, seat)
  redis.call(PUBLISH, CHANNEL, 'J ' .. member(peer, seat))
end

local function tell_left(peer, place)
  redis.call(PUBLISH, CHANNEL, 'L ' .. text(place) .. ' ' .. text(tick()) .. ' ' .. peer)
end

local function give_up(peer, seat)
  hide(peer, seat)
  tell_left(peer, seat.place)
end

