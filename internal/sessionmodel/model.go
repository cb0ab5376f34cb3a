package sessionmodel

import (
	"fmt"

	"github.com/conclavehq/conclave/internal/waitqueue/model"
)

// The steps.
const (
	actTick = iota
	actExpire
	actConnect
	actLeave
	actDie
	actSend
	actHear
	actTake
	actAnswer
	actAnswerOnly
	actRead
	actPut
	actSee
	actEnd
	actFind
	actMark
	actRevoke
	actLate
	actForget
	actLoseReply
	actLoseBeat
	actLoseAnswer
	actHostClose
	actKill
)

var texts = [...]string{
	actTick: "a tick passes (%d)", actExpire: "the lease expires (%d)", actConnect: "the caller makes connection %d and sends a heartbeat",
	actLeave: "the caller closes connection %d", actDie: "the caller dies (%d)", actSend: "the caller sends a heartbeat on %d",
	actHear: "the caller gets an answer on %d", actTake: "the first heartbeat of %d arrives",
	actAnswer: "a heartbeat of %d is answered, with a renewal", actAnswerOnly: "a heartbeat of %d is answered, without one",
	actRead: "the record is read, to attach %d", actPut: "the transaction that attaches %d is answered",
	actSee: "the end of %d is seen", actEnd: "the end of %d counts", actFind: "the record is read, to mark the end of %d", actMark: "the transaction that marks the end of %d is answered",
	actRevoke: "the lease is revoked for %d", actLate: "a late request is applied (%d)", actForget: "a late request is lost (%d)",
	actLoseReply: "the request for %d is given up", actLoseBeat: "a heartbeat on %d is lost", actLoseAnswer: "an answer on %d is lost",
	actHostClose: "the host closes %d", actKill: "host %d dies and starts again",
}

// A Model is a configuration as a transition system; see [model.Search].
type Model struct{ cfg Config }

// New returns the model of a configuration.
func New(cfg Config) *Model { return &Model{cfg} }

// Start returns the state after Open: a lease, a record, and a caller that has
// no connection for heartbeats yet.
func (m *Model) Start() State {
	return State{Alive: true, Lease: leaseFor, Rev: 1, Beats: int8(m.cfg.Beats), ByBeat: unbounded, ByLease: leaseFor, Faults: m.cfg.Faults}
}

// Describe says a step in words.
func (m *Model) Describe(st model.Step) string { return fmt.Sprintf(texts[st.Act], st.Actor) }

// Check returns what is wrong with a state.
func (m *Model) Check(s *State) string {
	switch {
	case s.Wrong:
		return "a connection that its caller did not end has released the session"
	case !s.Alive && s.counts():
		return "the session has ended, and its caller counts on it"
	case s.Ending && s.counts():
		return "the session is marked as ending, and its caller counts on it"
	default:
		return ""
	}
}

// Settled returns what is wrong with a state in which nothing more happens. A
// session whose leases do not expire must have been released, if it was attached
// to a connection that the caller ended.
func (m *Model) Settled(s *State) string {
	if s.Alive && (!m.cfg.NoExpiry || s.Conn > 0 && !s.Conns[s.Conn-1].Cut) {
		return "the caller is gone, and its session stands"
	}
	return ""
}

// Canonical forgets what can have no effect any more. A revision never comes
// again, and neither does a lease.
func (m *Model) Canonical(s *State) {
	m.pruneLate(s)
	for c := range s.Conns {
		m.pruneConn(s, c)
	}
	if s.Dead {
		s.Beats = 0
	}
	if !s.Alive {
		s.Rev, s.Conn, s.Ending, s.Lease, s.Beats, s.Faults = 0, 0, false, 0, 0, Faults{}
	}
}

func (m *Model) pruneLate(s *State) {
	k := 0
	for _, l := range s.Late {
		guarded := l.Kind == putting && m.cfg.Defect != AttachUnguarded || l.Kind == marking && m.cfg.Defect != MarkUnguarded
		if l.Kind == idle || !s.Alive || guarded && l.Guard != s.Rev {
			continue
		}
		s.Late[k] = l
		k++
	}
	for ; k < maxLate; k++ {
		s.Late[k] = late{}
	}
	if s.Late[1].less(s.Late[0]) {
		s.Late[0], s.Late[1] = s.Late[1], s.Late[0]
	}
}

func (l late) less(o late) bool {
	if l.Kind != o.Kind {
		return l.Kind < o.Kind && l.Kind != idle
	}
	return l.Conn < o.Conn || l.Conn == o.Conn && l.Guard < o.Guard
}

func (m *Model) pruneConn(s *State, c int) {
	k := &s.Conns[c]
	if !k.Open {
		return
	}
	if !s.Alive {
		k.Phase = over
	}
	switch k.Phase {
	case idle:
		k.Last, k.Guard = 0, 0
	case reading, attached:
		k.Guard = 0
	case finding, revoking:
		k.Last, k.Guard = 0, 0
	case marking:
		k.Last = 0
	case over:
		*k = conn{Open: true, Host: 0, Left: k.Left, Cut: k.Cut, Phase: over, Answer: k.Answer}
	}
	if k.Phase == over && k.Left {
		*k = conn{Open: true, Left: true, Cut: k.Cut, Phase: over}
	}
}

// Next emits every step out of a state.
func (m *Model) Next(s *State, emit func(model.Step, *State)) {
	p := &stepper{m: m, from: s, emit: emit}
	p.time()
	p.caller()
	for c := range s.Conns {
		if s.Conns[c].Open {
			p.host(c)
			p.trouble(c)
		}
	}
	p.lateRequests()
	for h := range m.cfg.Hosts {
		p.kill(h)
	}
}

// A stepper makes the steps out of one state.
type stepper struct {
	m    *Model
	from *State
	emit func(model.Step, *State)
}

// do emits the step st, which f carries out on a copy of the state.
func (p *stepper) do(st model.Step, f func(*State)) {
	next := *p.from
	f(&next)
	p.emit(st, &next)
}

// time lets a tick pass, everywhere at once, and ends leases that are due.
func (p *stepper) time() {
	next := *p.from
	next.tick(p.m.cfg.NoExpiry)
	p.m.Canonical(&next)
	if next != *p.from {
		p.emit(model.Step{Act: actTick}, &next)
	}
	if p.from.Alive && p.from.Lease == 0 {
		p.do(model.Step{Act: actExpire}, func(s *State) { s.Alive = false })
	}
}

func (s *State) tick(noExpiry bool) {
	if s.Alive && !noExpiry {
		s.Lease = max(s.Lease-1, 0)
	}
	if s.ByBeat != unbounded {
		s.ByBeat = max(s.ByBeat-1, 0)
	}
	if !noExpiry {
		s.ByLease = max(s.ByLease-1, 0)
	}
	for c := range s.Conns {
		k := &s.Conns[c]
		if !k.Open {
			continue
		}
		k.Last = min(k.Last+1, beatFor)
		for _, msg := range []*message{&k.First, &k.Beat, &k.Answer} {
			if msg.Sent {
				msg.Age = min(msg.Age+1, leaseFor)
			}
		}
	}
}
