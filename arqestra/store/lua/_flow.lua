-- Flows: graphs of jobs, and durable workflows (docs/protocols.md, "Flows and joins").
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
--
-- The parts: FlowNodes (releasing a node, the end of a node and of a flow, its children), FlowPasses (work on all nodes of a
-- flow, a piece at a time), FlowContinuations (writing what a call found out, and what is left to do).
-- USES  FlowNodes, FlowPasses, FlowContinuations

local function add_continuation(c, what, number, piece, flow)
  local agenda = FlowNodes.flows_of(c).agenda
  agenda[#agenda + 1] = { what, number, piece, flow }
end

-- What this call knew of a flow is over.
local function forget_view(c, flow)
  FlowNodes.flows_of(c).touched[flow] = nil
end

return {
  INLINE = FlowNodes.INLINE,
  exists = FlowNodes.exists,
  view_of = FlowNodes.view_of,
  set_state = FlowNodes.set_state,
  state_of = FlowNodes.state_of,
  decoded = FlowNodes.decoded,
  node_of = FlowNodes.node_of,
  release = FlowNodes.release,
  notify = FlowNodes.notify,
  end_flow = FlowNodes.end_flow,
  end_node = FlowNodes.end_node,
  mark_its_queues = FlowNodes.mark_its_queues,
  unblock = FlowNodes.unblock,
  abort_node = FlowPasses.abort_node,
  abort_unreleased = FlowPasses.abort_unreleased,
  run_continuations = FlowContinuations.run_continuations,
  is_cancelled = FlowContinuations.is_cancelled,
  add_continuation = add_continuation,
  forget_view = forget_view,
}
