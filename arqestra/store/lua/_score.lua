-- Scores of the queue. A due job's score is when it became due, less SPAN for each step of its priority: so the queue's
-- order is by priority, then first in, first out, and every due job has a past score, as stock arq expects. A deferred
-- job has its due time for a score, with the priority in sixteenths of a ms behind the point; the few that have one are
-- also listed by due time (PROMOTE), and a claim moves them to the front when they become due.

local SPAN = 1e13                    -- longer than any time of day in ms
local FAR_FUTURE = 8640000000000000  -- as arq's datetime range; plus the priority: a workflow that waits for news
local HELD_SCORE = 8639999999999000  -- a job that waits for its turn under a limit
local STOCK_ABORT_SCORE = 1          -- what stock arq's abort() writes

local function in_order(due, priority)
  return due - priority * SPAN
end

-- When a job became due, from its score or from the score that its lease record keeps.
local function due_of(score)
  return score >= HELD_SCORE and score or math.floor(score % SPAN)
end

local function priority_of(score)
  if score < 0 then
    return -math.floor(score / SPAN)
  end
  return score >= FAR_FUTURE and score - FAR_FUTURE or (score % 1) * 16
end

-- The score of a job that is due at a time; a deferred one with a priority is listed for its promotion.
local function score_at(queue, id, due, priority, now)
  if due <= now then
    return in_order(due, priority)
  end
  if priority > 0 then
    call('ZADD', PROMOTE .. queue, due, id)
    return due + priority / 16
  end
  return due
end

-- Deferred jobs with a priority that have become due take their place in the queue's order.
local function promote(queue, now)
  local ready = call('ZRANGEBYSCORE', PROMOTE .. queue, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 500)
  for i = 1, #ready, 2 do
    local id, due = ready[i], tonumber(ready[i + 1])
    local score = tonumber(call('ZSCORE', queue, id) or 0)
    if math.floor(score) == due then
      call('ZADD', queue, 'XX', in_order(due, priority_of(score)), id)
    end
    call('ZREM', PROMOTE .. queue, id)
  end
end
