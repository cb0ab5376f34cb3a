package model

// The bounds of a configuration. A state is plain memory.
const (
	maxItems     = 2
	maxConsumers = 3
	maxLate      = 2
)

// Faults are budgets: how often each may happen, at any moment.
type Faults struct {
	LoseReply  int8 // a request is given up; it may be applied late, or never
	Expire     int8 // a lease ends, and its session does not know yet
	Crash      int8 // a process stops; its lease ends later
	Visibility int8 // the time of a delivery is over
	Cancel     int8 // the caller of an ack does not wait for its end
	DropOut    int8 // a delivery is deleted by hand
	DropHere   int8 // a session's key is deleted by hand
}

// Config is one configuration.
type Config struct {
	Items     int
	Consumers int
	Served    bool // the sessions are served by hosts: others end deliveries whose time is over
	Once      bool // every item is nacked once at most, so that there is an end
	Faults    Faults
	Defect    Defect
}

// Defect takes a guard or a step out of the protocol.
type Defect int8

// The defects.
const (
	Correct               Defect = iota
	AckUnguarded                 // the ack does not compare its token
	ClaimWithoutHere             // the claim does not compare the session's key
	ClaimNotRepeated             // a claim whose reply was lost is forgotten
	ClaimForgottenWithKey        // one that is repeated when the session has a new key is forgotten
	InheritUnguarded             // what a dead session left is returned without comparing its key
	ReturnUnguarded              // a return does not compare its token
	AckNotRepeated               // an ack whose reply was lost, and that finds nothing, reads as stale
	GoneMeansAcked               // an ack that finds nothing reads as done, without a look at the session's key
	NoNote                       // whoever ends a served delivery leaves no note
	DedupIgnored                 // a repeated enqueue does not compare the dedup key
	DeathUnnoticed               // nobody returns what dead sessions left
)

// place is where an item is.
type place int8

const (
	nowhere place = iota
	ready
	out
	acked
	erased // deleted by hand
)

type item struct {
	At      place
	By      int8 // whose delivery
	Mod     int8 // of its key
	Puts    int8
	Nacks   int8
	Effects int8
	Token   int8 // of the ack that was applied
	Dedup   bool
}

type op int8

const (
	opNone op = iota
	opEnqueue
	opArrive
	opClaim
	opAck
	opReturn  // of its own delivery
	opInherit // of a dead session's
	opOverdue // of a served session's
	opTidy    // the mark that a dead session left work
)

// request is a transaction on its way: all that its guards compare.
type request struct {
	Op   op
	Item int8
	Of   int8 // whose delivery
	Mod  int8
	Here int8
}

type code int8

const (
	codeNone code = iota
	codeDone
	codeRefused
	codeNoSession // the session's key is not what it was
	codeFound     // refused, and a delivery of this session stands
	codeReturned  // refused, and somebody has returned the delivery
)

type reply struct {
	Code code
	Mod  int8
}

type phase int8

const (
	idle phase = iota
	busy       // its request is on its way
	holding
	settling // it has given up an ack, and returns the delivery in its time
	over     // the process is gone, or the session has ended and it knows
)

// told is what the caller of an ack was told.
type told int8

const (
	nothing told = iota
	fine
	stale
	unknown
)

// actor is a consumer, or a producer that puts one item.
type actor struct {
	Phase   phase
	Here    int8 // create revision of the session's key, as it knows it
	Item    int8
	Mod     int8 // the token, while it holds
	Doubt   bool // an earlier request of the same sort has an unknown outcome
	Req     request
	Sent    bool
	Applied bool
	Rep     reply
	Late    [maxLate]request
}

// verdict is what became of the last delivery of an item to a consumer.
type verdict struct {
	Token int8
	Told  told
}

// State is the store, the actors, and the faults that are left.
type State struct {
	Rev       int8
	Items     [maxItems]item
	Here      [maxConsumers]int8 // create revision of each session's key, 0 if absent
	Dead      [maxConsumers]bool // the lease is gone
	Work      [maxConsumers]bool // there may be deliveries of the session
	Notes     [maxConsumers][maxItems]bool
	Consumers [maxConsumers]actor
	Producers [maxItems]actor
	Verdicts  [maxConsumers][maxItems]verdict
	Left      Faults
	Harm      harm
}

type harm int8

const (
	harmNone harm = iota
	harmTwice
	harmAfterAck
	harmLiar
)
