package model

// The bounds of a [Lent] configuration.
const (
	maxCalls = 4
	maxIDs   = 2 * maxCalls // a call begins anew once at most
	maxHosts = 3
)

// Call is one acquisition of a [LentConfig]: of the lease that several hosts
// serve, or of a library user with a session of its own.
type Call struct {
	Host int8 // that serves it; 0: a library user
	Try  bool // does not wait
	Last bool // begins when all others of the lease are over, one way or the other
}

// LentFaults are the budgets of a [LentConfig].
type LentFaults struct {
	Kill      int8 // a host dies, the lease lives on
	LoseReply int8
	Cancel    int8
	Expire    int8 // the lease that the hosts serve ends
}

// LentConfig is one configuration of [Lent].
type LentConfig struct {
	Calls  []Call
	Faults LentFaults
	Defect LentDefect
}

// LentDefect takes a guard or a step out of the protocol of a lease that several
// hosts serve.
type LentDefect int8

// The defects of a lease that several hosts serve.
const (
	LentCorrect LentDefect = iota
	NoHome
	ReleaseLeavesHome
	QueuesBehindItself
	TakesNothingUp
	CancelIgnoresTakeUp
	GiveUpIgnoresTakeUp
	GivesUpWhatOthersHave
	TakeUpLeavesHome
	MovesWhileAcquiring
	WatchAfterTakeUp
)

// lentRequest is a transaction on its way, with all that its guards compare.
type lentRequest struct {
	Op      op
	ID, Own int8 // the acquisition + 1; another one that is voided with it
	P       int8 // create revision or token
	Void    int8 // revision of the void record of ID
	Came    int8 // revision of the home
	Move    bool // it writes the home
	Unknown bool // it writes the void record
	OnGrant bool // it takes up an ownership, not a ticket
	By      int8 // what it writes into the void record
}

// lentReply is what a transaction returns.
type lentReply struct {
	Code    code
	P       int8 // token, create revision, or of the void record
	Home    int8
	Void    int8 // the void record of the acquisition found
	By      int8 // what is in it
	Found   int8 // what stands of the lease: the acquisition + 1
	OnGrant bool
}

// lentCall is the client of one call.
type lentCall struct {
	Phase   phase
	Fresh   int8 // how often it began
	ID      int8 // as which acquisition it acts, + 1
	Unknown bool // an attempt of its own acquisition has an unknown outcome
	Watches bool
	Cancel  bool
	Ended   bool // the session released what it has
	C, Tok  int8
	Told    bool // another call may have been told of what it has
	Adopted int8 // revision of the void record that makes it responsible
	Tries   int8 // to take something up
	Next    op   // what it sends once the home is here
	Via     int8 // the host that releases for it
	Heard   heard
	HeardM  int8
	Out     lentRequest
	Sent    bool
	Applied bool
	Rep     lentReply
	Late    [maxLate]lentRequest
}

// record is a void record.
type record struct{ Rev, By int8 }

// LentState is the store of one name, the clients, and the faults that are left.
type LentState struct {
	Rev, Home int8
	Grant     struct{ A, M int8 }
	Tickets   [maxIDs]place
	Voids     [maxIDs]record
	Hosts     [maxHosts + 1]struct {
		Rev        int8 // of the home, as it was seen last
		Mine, Dead bool
	}
	Calls [maxCalls]lentCall
	Dead  bool // the lease that the hosts serve is gone
	Left  LentFaults
	Harm  lentHarm
}

type lentHarm int8

const (
	lentHarmless lentHarm = iota
	lentDenied
	lentItself
	lentOvertakes
	lentToken
	lentFresh
)

// Lent is one name that library users take and a lease that several hosts serve:
// the lease owns it at most once, and what one host left another one takes up.
type Lent struct {
	cfg     LentConfig
	scratch LentState
}

// NewLent returns the model of one name and a lease that several hosts serve.
// The configuration must stay within 4 calls and 3 hosts.
func NewLent(c LentConfig) *Lent { return &Lent{cfg: c} }

// Start implements [Model].
func (m *Lent) Start() LentState { return LentState{Left: m.cfg.Faults} }

func (m *Lent) defect(d LentDefect) bool { return m.cfg.Defect == d }

// host is the one that serves a call, 0 if it is a library user's.
func (m *Lent) host(call int) int8 { return m.cfg.Calls[call].Host }

// callOf tells which call made an acquisition.
func callOf(id int8) int { return int(id-1) % maxCalls }

// lent tells whether an acquisition is of the lease that the hosts serve.
func (m *Lent) lent(id int8) bool { return id > 0 && m.host(callOf(id)) > 0 }

// own is the acquisition that a call began itself.
func (c *lentCall) own(call int) int8 { return int8(call) + 1 + maxCalls*c.Fresh }

func (s *LentState) waits(id int8) bool { return s.Tickets[id-1].C > 0 && !s.Tickets[id-1].Granted }

// firstInLine is the acquisition whose ticket has waited longest, 0 if none waits.
func (s *LentState) firstInLine() int8 {
	best := int8(0)
	for id := int8(1); id <= maxIDs; id++ {
		if s.waits(id) && (best == 0 || s.Tickets[id-1].C < s.Tickets[best-1].C) {
			best = id
		}
	}
	return best
}

// standing finds what the lease of id has of the name.
func (m *Lent) standing(s *LentState, id int8) (found int8, onGrant bool) {
	same := func(x int8) bool { return x == id || m.lent(x) && m.lent(id) }
	if s.Grant.A > 0 && same(s.Grant.A) {
		return s.Grant.A, true
	}
	for x := int8(1); x <= maxIDs; x++ {
		if s.Tickets[x-1].C > 0 && callOf(x) < len(m.cfg.Calls) && same(x) {
			return x, false
		}
	}
	return 0, false
}
