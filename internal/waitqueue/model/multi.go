package model

const (
	maxMembers = 4
	maxNames   = 3
)

// Member is one acquisition of a [MultiConfig], with a session of its own.
type Member struct {
	Names   []int // the names it wants, all at once; one name is a plain writer
	Urgency int8
}

// MultiConfig is one configuration of [Multi].
type MultiConfig struct {
	Members     []Member
	Faults      Faults // Expire, LoseReply, Cancel, Force, DropTicket and DropGrant are used
	Defect      MultiDefect
	TrustRecord bool // demand that a set record is true even after a part was deleted by hand
}

// MultiDefect takes a guard or a step out of the protocol of sets.
type MultiDefect int8

// The defects of sets.
const (
	MultiCorrect MultiDefect = iota
	PartsHandedOver
	ForcedKeepsRecord
	SetSkippedInLine
	SetWithoutVoid
	ClaimIgnoresOneName
	PassKeepsOtherTickets
	ForcedDeletesRecord
	GoneLeavesOtherTickets
)

// multiRequest is a transaction of a member on its way.
type multiRequest struct {
	Op   op
	P    int8
	Void bool
	H    [maxNames]hint // the first in line of each name, as the client last read it
}

type multiReply struct {
	Code    code
	P       int8
	Blocker int8 // see blockIn
	H       [maxNames]hint
}

// member is the client of one acquisition.
type member struct {
	Phase   phase
	Cancel  bool
	Unknown bool
	Watches bool
	Ended   bool // an operator took a part
	ByHand  bool // and did not tell the set record
	Tok     int8
	Out     multiRequest
	Sent    bool
	Applied bool
	Rep     multiReply
	Late    [maxLate]multiRequest
	Heard   heard
	HeardM  int8
	Blocker int8
	Unblock bool
	LookDue bool
}

// place is a member's ticket in one name.
type place struct {
	C, M    int8
	Granted bool
}

// MultiState is the store of several names, the clients, and the faults that are left.
type MultiState struct {
	Rev     int8
	Grants  [maxNames]struct{ A, M int8 }
	Tickets [maxMembers][maxNames]place
	Sets    [maxMembers]int8 // mod revision of the set record, 0 if absent
	Broken  [maxMembers]int8 // the revision of the grants, in the record of a set that lost a part by force
	Voids   [maxMembers]bool
	Dead    [maxMembers]bool
	Members [maxMembers]member
	Force   struct{ A, Name, Tok int8 } // what an operator read, A is 0 while it does nothing
	ForceH  hint
	Left    Faults
	Harm    harm
}

// Multi is several names, after a [MultiConfig].
type Multi struct {
	cfg     MultiConfig
	scratch MultiState
}

// NewMulti returns the model of several names. The configuration must stay within 4 members and 3 names.
func NewMulti(c MultiConfig) *Multi { return &Multi{cfg: c} }

// Start implements [Model].
func (m *Multi) Start() MultiState {
	return MultiState{Left: m.cfg.Faults}
}

func (m *Multi) names(a int) []int { return m.cfg.Members[a].Names }

func (m *Multi) isSet(a int) bool { return len(m.cfg.Members[a].Names) > 1 }

// blockIn and blockOwner name a watched key: a ticket in a name, or the grant of a name.
func blockIn(name, a int) int8 { return int8(1 + name*10 + a) }

func blockOwner(name int) int8 { return int8(1 + name*10 + 9) }

func (s *MultiState) happen(key int8) {
	for a := range s.Members {
		if s.Members[a].Blocker == key {
			s.Members[a].Unblock = true
		}
	}
}

func (s *MultiState) waits(a, n int) bool { return s.Tickets[a][n].C > 0 && !s.Tickets[a][n].Granted }

func (m *Multi) anyWaits(s *MultiState, n int) bool {
	for a := range m.cfg.Members {
		if s.waits(a, n) {
			return true
		}
	}
	return false
}

func (m *Multi) urgentWaits(s *MultiState, a, n int) bool {
	for b := range m.cfg.Members {
		if s.waits(b, n) && m.cfg.Members[b].Urgency > m.cfg.Members[a].Urgency {
			return true
		}
	}
	return false
}

func (m *Multi) ahead(s *MultiState, b, a, n int) bool {
	ub, ua := m.cfg.Members[b].Urgency, m.cfg.Members[a].Urgency
	if ub != ua {
		return ub > ua
	}
	return s.Tickets[a][n].C == 0 || s.Tickets[b][n].C < s.Tickets[a][n].C
}

// first returns the first waiting ticket of a name.
func (m *Multi) first(s *MultiState, n, except int) (h hint) {
	best := -1
	for a := range m.cfg.Members {
		if a != except && s.waits(a, n) && (best < 0 || m.ahead(s, a, best, n)) {
			best = a
		}
	}
	if best < 0 {
		return hint{}
	}
	return hint{int8(best + 1), s.Tickets[best][n].C}
}

func (m *Multi) firsts(s *MultiState, a int) (h [maxNames]hint) {
	for _, n := range m.names(a) {
		h[n] = m.first(s, n, a)
	}
	return h
}

func (s *MultiState) deleteTicket(a, n int) {
	if s.Tickets[a][n].C == 0 {
		return
	}
	s.Tickets[a][n] = place{}
	if c := &s.Members[a]; c.Watches && c.Heard == heardNothing {
		c.Heard = heardDelete
	}
	s.happen(blockIn(n, a))
}

func (s *MultiState) deleteGrant(n int) {
	if s.Grants[n].A == 0 {
		return
	}
	s.Grants[n].A, s.Grants[n].M = 0, 0
	s.happen(blockOwner(n))
}

// grantTo gives one name to a.
func (m *Multi) grantTo(s *MultiState, a, n int, rev int8) {
	switch {
	case s.Members[a].Phase == done:
		s.Harm = harmFinished
	case s.Dead[a]:
		s.Harm = harmDeadLease
	case s.Grants[n].A != 0:
		s.Harm = harmBeside
	}
	for b := range m.cfg.Members {
		if b != a && s.waits(b, n) && m.ahead(s, b, a, n) {
			s.Harm = harmOvertakes
		}
	}
	s.Grants[n].A, s.Grants[n].M = int8(a+1), rev
	if t := &s.Tickets[a][n]; t.C > 0 {
		t.Granted, t.M = true, rev
		if c := &s.Members[a]; c.Watches && c.Heard == heardNothing && !m.isSet(a) {
			c.Heard, c.HeardM = heardGrant, rev
		}
	}
}
