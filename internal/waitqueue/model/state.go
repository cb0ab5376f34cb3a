package model

// The bounds of one configuration. Every field of a state is one byte wide, so that a state is plain memory:
// cheap to copy and to hash.
const (
	maxAcq      = 5
	maxSessions = 5
	maxHints    = 3
	maxLate     = 2
)

// Kind is what an acquisition wants of the name.
type Kind int8

// The kinds of acquisition that share one line. A part of a set stands in the line as a ticket that is never
// handed over; [Multi] models it.
const (
	Writer  Kind = iota // alone: Mutex, RWMutex.Lock
	Reader              // beside other readers: RWMutex.RLock
	Permits             // n of the limit: Semaphore
)

// hint names a ticket by what must still be true of it: it was created at C and nothing has been put since.
type hint struct{ A, C int8 } // A is the acquisition + 1, 0 is none

type hints [maxHints]hint

// ticket is a key under line/. It waits until it is put a second time.
type ticket struct {
	C       int8 // create revision, 0 if absent
	M, X    int8 // the grant's revision and index, once granted
	Granted bool
	H       hints
}

// holding is a key under read/ or hold/.
type holding struct{ M, X int8 } // mod revision (0 if absent) and index: the token

type op int8

const (
	opNone op = iota
	opView
	opTry
	opEnter
	opLook
	opClaim
	opCancel
	opVoid
	opPass
	opDowngrade
	opTakeUp
	opGiveUp
	opAsk
	opHome
)

// fit is what a client concludes from a view of a name.
type fit int8

const (
	fits        fit = iota // the limit allows it, and the permits that the view saw leave room
	fitsNot                // the limit is right, there is no room
	fitsStale              // the limit that stands is nobody's any more: replace or delete it
	fitsNowhere            // the name is in use by another kind, or with another limit
)

// view is what a client knows about permits and limit, as of one revision.
type view struct {
	V, L int8 // the revision of the read, the mod revision of the limit (0 if absent)
	Fit  fit
}

// request is a transaction on its way. It carries all that its guards compare.
type request struct {
	Op     op
	P      int8 // create revision or token, as the operation needs
	View   view
	Void   bool // write the void record with it
	Next   int8 // the next acquisition of the local line + 1
	Forced bool // an operator sends it
	Hand   bool // an operator's
	Heir   hint // of a transfer
	H      hints
}

type code int8

const (
	codeNone code = iota
	codeGranted
	codeWait
	codeMayClaim
	codeGone
	codeHeld
	codeLimit
	codeRefused
	codeNoLease
	codeDone
	codeLineChanged
	codeNotOwner
	codeView
)

// reply is what a transaction returns, reduced to what its client concludes from it.
type reply struct {
	Code    code
	P, X    int8 // token with index, or create revision
	Blocker int8
	View    view
	Next    code // what became of the local line's next acquisition
	NextP   int8
	H       hints
}

type phase int8

const (
	idle       phase = iota
	local            // stands in the local line, knows nothing of etcd
	named            // a Pass on its way puts its ticket or its grant
	viewing          // reads permits and limit
	trying           //
	entering         //
	waiting          //
	looking          //
	claiming         //
	cancelling       //
	voiding          //
	owning           //
	lowering         // a writer becomes a reader
	releasing        //
	done             // the caller has its answer, nothing may follow
	crashed          // the process is gone, or gave up; its requests are not
	adopting         // takes up what another host left
	asking           // why its ticket is gone
	moving           // moves the home of its session here
	givingUp         // lets go what no caller was told of
)

// announcement is the first event of the own ticket: the only one that a client acts upon.
type announcement struct {
	Kind heard
	M, X int8
	H    hints
}

type heard int8

const (
	heardNothing heard = iota
	heardGrant
	heardDelete
)

// acquisition is one acquisition and the client that makes it.
type acquisition struct {
	Phase   phase
	Cancel  bool // its caller has gone
	Unknown bool // an attempt of unknown outcome exists
	Watches bool // the own watch is registered
	Blind   bool // the own watch was lost, and no look has replaced it yet
	LookDue bool // has not looked at the line yet
	Lowered bool // a writer that holds as a reader
	Ended   bool // what it held was taken by an operator: its token is void, it may not know yet
	C       int8 // the own ticket's create revision
	Heir    hint // in whose favour it was told to let go
	Tok, X  int8
	H       hints
	Out     request
	Sent    bool
	Applied bool
	Rep     reply
	Late    [maxLate]request // abandoned requests that may still be applied
	Heard   announcement
	Blocker int8 // the watched key, see blocker.go
	Unblock bool // its event waits
}

// operator is somebody who forces an owner out: first it reads, then it passes, in two steps.
type operator struct {
	Holder, Tok int8 // acquisition + 1 and the token it read, 0 while it does nothing
	Heir        hint // of a transfer
	H           hints
}

// State is the store, the clients, and the faults that are left.
type State struct {
	Rev     int8
	Grant   struct{ A, M int8 } // A is the acquisition + 1, 0 if absent
	Limit   struct{ M, N int8 } // M is 0 if absent
	Shadow  int8                // the acquisition + 1 whose delay it is, 0 if absent
	Tickets [maxAcq]ticket
	Holds   [maxAcq]holding // read/ or hold/, as the acquisition's kind says
	Voids   [maxAcq]bool
	Acq     [maxAcq]acquisition
	Dead    [maxSessions]bool // the lease is gone
	Crashed [maxSessions]bool
	Op      operator
	Left    Faults
	Harm    harm // a transaction did what no transaction may do
}
