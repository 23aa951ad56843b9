-- Flows: graphs of jobs, and durable workflows: the module `Flow`. Needs _score, _wake, _specs and `Limits`.
--
-- A flow is a record in Redis with numbered nodes. A job that belongs to one says so in its spec: { 'n', flow, number }.
--
--   FLOW .. flow     hash: kind ('g' graph, 'w' workflow), state ('running', 'ended'), and of a graph left (nodes that have
--                    not ended), total, q (released), and a count for each state
--   NODES .. flow    hash: number -> record; number .. 'c' .. k -> k-th piece of its children, { '1' if more follow, ... };
--                    number .. 'i' -> its job id, if that is not flow~number; and what only Python reads
--   STATES .. flow   hash: number -> state. 'q' released; ended: 'c' complete, 'f' failed, 'a' aborted, 'x' expired,
--                    'u' and the number of the node at fault: a parent failed, 's' skipped, 'd' dropped by a cancellation.
--                    Of the first four: then '0' its result is not kept beyond the flow, '!' it is kept for ever
--   PENDING .. flow  hash: join -> parents that have not ended
--   LOG .. flow      list, of a workflow: its events in order
--   RESERVED .. id   of a job id that was chosen, until its node is released: nonce of the producer, number, flow
--   CONTINUATIONS           list of what is left to do: `what|number|piece|flow`; what: 'e' settle the children of a node that has
--                    ended, 'c' cancel, 'z' give results their TTL, 'r' reset nodes, 'p' keep results, 'i' keep ids reserved,
--                    'd' delete those of an earlier life of a workflow
--
-- A node's record: header length (4 digits), header, spec length (5 digits), spec, payload. The header is msgpack:
--   { kind: 'job' | 'join', runs: 'ok' | 'error', on failure: 'fail' | 'continue', queue, priority, first limit or '', when }
-- A join is no job: it ends, with the list of its parents' results, when its last parent has ended.
--
-- THE JOIN FIRES ONCE: a node ends in one script (its lease is fenced, so at most once), and that script settles its
-- children, which releases a child, counts a join down, or passes a failure on. What would take the script too long goes
-- to CONTINUATIONS in the same script, and the next claim of any worker carries on there: nothing depends on the producer, on the
-- worker that ran the parent, or on a message. A child that has a state already is left alone.

local INLINE = 200           -- children settled in the script that ended their parent
local FORCED = 0.5           -- in the score of an abort: a worker obeys whether or not it allows aborts
local RESERVED_TTL_MS = 30 * 86400000
local PASS = 100             -- nodes looked at in one step of a pass over all of them

local agenda = {}            -- continuations of this script: { what, number, piece, flow, the only child if it is known }
local touched = {}           -- flow -> what this script knows and changes of it: see `view_of`
local released = {}          -- what is written of released nodes: payloads, and for each queue specs and scores
local notified = {}          -- workflows whose worker was told in this script

-- What its parts use of each other.
local flow_exists, view_of, state_of, set_state, decoded, node_of, release, notify, end_flow, end_node, abort_node, run_continuations
local is_cancelled, mark_its_queues, abort_unreleased, unblock

-- @include _lease
-- @include _flow_nodes
-- @include _flow_passes
-- @include _flow_continuations

local function add_continuation(what, number, piece, flow)
  agenda[#agenda + 1] = { what, number, piece, flow }
end

-- What this script knew of a flow is over.
local function forget_view(flow)
  touched[flow] = nil
end

return {
  INLINE = INLINE,
  exists = flow_exists,
  view_of = view_of,
  set_state = set_state,
  decoded = decoded,
  node_of = node_of,
  release = release,
  notify = notify,
  end_flow = end_flow,
  end_node = end_node,
  abort_node = abort_node,
  abort_unreleased = abort_unreleased,
  run_continuations = run_continuations,
  is_cancelled = is_cancelled,
  mark_its_queues = mark_its_queues,
  state_of = state_of,
  unblock = unblock,
  add_continuation = add_continuation,
  forget_view = forget_view,
}
