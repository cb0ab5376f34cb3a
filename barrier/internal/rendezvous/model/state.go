package model

// The bounds of one configuration. A state is plain memory, one byte a field.
const (
	maxArrivals = 5
	maxSessions = 5
	maxGens     = 4
	maxLate     = 2
)

// Arrival is one Enter or Await of a configuration.
type Arrival struct {
	Session int
	After   int // starts when that arrival (1 is the first) is over; 0 starts at will
}

// Faults are the budgets of a configuration: how often each may happen, at any moment.
type Faults struct {
	Expire     int8 // the lease ends, with all its keys
	Crash      int8 // the process stops; its lease ends later
	LoseReply  int8 // a request is given up; it may be applied late, or never
	Cancel     int8 // a caller stops waiting
	LoseWatch  int8 // events are skipped: the watch is opened again, and the state is read
	DropTicket int8 // a ticket is deleted by hand
}

// Config is one configuration of [Meeting].
type Config struct {
	Arrivals []Arrival
	Parties  int8
	Cyclic   bool
	Breaks   bool // a loss breaks the generation; a cyclic barrier always does
	Faults   Faults
	Defect   Defect
}

// Defect takes a guard or a step out of the protocol.
type Defect int8

// The defects of [Meeting].
const (
	Correct Defect = iota
	ReadyIgnoresLeft
	ReadyIgnoresState
	CancelIgnoresReady
	CancelKeepsNoVoid
	JoinIgnoresState
	ListIsNotKept
	OverIgnoresTickets
	LeaveForgetsTheLast
	NobodyLooksForOver
	FirstLooksAtNobody
	BreakIgnoresTicket
	CancelKeepsParty
	NobodyLooksForItself
	ExtraEnters
	ExtraDoesNotHelp
	ReadyReplyIsFinal
	DeletedKeepsNoVoid
)

type op int8

const (
	opNone op = iota
	opBegin
	opJoin
	opReady
	opCancel
	opLeave
	opOver
	opBreak
)

// request is a transaction on its way, with all that its guards compare.
type request struct {
	Op   op
	V    int8 // the version of the state key
	G    int8
	R    int8 // the revision of the list
	List int8 // of the members, as a set
	X    int8 // the lost arrival + 1
	C    int8 // the create revision of its party
	Void bool
}

// reply is what a transaction returns.
type reply struct {
	OK      bool
	V       int8 // the version of the state key
	Mine    bool // the own ticket stands in the request's generation
	Voided  bool // the own void record stands
	R       int8
	List    int8 // the n oldest tickets
	NoLease bool
}

type phase int8

const (
	idle phase = iota
	beginning
	joining
	readying
	waiting
	cancelling
	withdrawing
	inside
	leaving
	parting // has left, and waits for the others
	overing
	breaking
	done
	crashed
)

type outcome int8

const (
	outNone outcome = iota
	outEntered
	outFull
	outCancelled
	outBroken
	outDeleted
	outExpired
	outMany // the configuration has no room for another generation
)

// arrival is one Enter or Await, and the client that makes it.
type arrival struct {
	Phase   phase
	Out     outcome
	Parted  bool // Leave returned
	Dropped bool // its ticket was deleted by hand
	Gone    bool // its caller stopped waiting
	Deleted bool // it found its ticket gone
	Unknown bool // a Join of unknown outcome exists
	G       int8 // the generation that it came to
	V       int8 // the version of the state key that it knows
	Req     request
	Sent    bool
	Applied bool
	Rep     reply
	Late    [maxLate]request
}

// generation is what became of one, and with which version of the state key.
type generation struct {
	Mem, Lost  int8 // the members, as a set; the lost arrival + 1
	Ready, End int8
}

// State is the store, the clients, and the faults that are left.
type State struct {
	Rev    int8
	Ver    int8 // of the state key; 0: absent
	G      int8 // the present generation
	Inside bool
	Gens   [maxGens + 2]generation // what the state key's past says, from 1 on
	Ticket [maxArrivals]struct{ C, G int8 }
	Party  [maxArrivals]struct{ C, G int8 }
	Left   int8
	Void   [maxArrivals]bool
	Dead   [maxSessions]bool
	Crash  [maxSessions]bool
	Arr    [maxArrivals]arrival
	Faults Faults
	Harm   string
}
