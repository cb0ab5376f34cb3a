package sessionmodel

// The lengths of time, in ticks.
const (
	beatFor  = 2 // how long a heartbeat counts
	leaseFor = 3 // how long a renewal counts
	// unbounded: no request on a stream has been sent yet.
	unbounded = beatFor + 1
)

const (
	maxConns = 3
	maxLate  = 2
)

// A Config says what may happen.
type Config struct {
	Hosts  int // 1 or 2
	Conns  int // how often the caller connects, at most
	Beats  int // heartbeats beside the first one of each connection
	Faults Faults
	Defect Defect
	// NoExpiry: leases stand for ever, so that only release can end the session
	// of a caller that died.
	NoExpiry bool
}

// Faults are budgets: how often each may happen, at any moment.
type Faults struct {
	LoseReply int8 // a host gives a request to etcd up; it may be applied late, or never
	LoseBeat  int8 // a heartbeat or its answer is lost
	HostClose int8 // a host closes a connection
	Kill      int8 // a host dies, and starts again
}

// A Defect is a rule left out.
type Defect int

// The defects.
const (
	Correct Defect = iota
	// ReleaseAtOnce does not wait until the last heartbeat counts no more.
	ReleaseAtOnce
	// ReleaseUnmarked revokes without the transaction that marks the end.
	ReleaseUnmarked
	// MarkUnguarded marks whatever connection the record names.
	MarkUnguarded
	// AttachUnguarded overwrites the record, whatever it has become.
	AttachUnguarded
	// AttachIgnoresOrder lets a stream attach that its caller left for another.
	AttachIgnoresOrder
	// AttachRevives attaches to a record that is marked as ending.
	AttachRevives
	// AnswerBeforeAttach answers while it is not certain that it is attached.
	AnswerBeforeAttach
	// CountFromAnswer is a caller that counts from the arrival of the answer.
	CountFromAnswer
	// UseOldStreams is a caller that goes on with a stream after it began another.
	UseOldStreams
	// CountFromOpen is a caller that does not bound its validity when it sends
	// its first heartbeat.
	CountFromOpen
	// AttachUncounted does not count the first heartbeat until it is answered.
	AttachUncounted
	// OwnCloseCounts releases after a close of the host's own.
	OwnCloseCounts
	// AnswerKeepsFull promises the whole TTL whether it renewed or not.
	AnswerKeepsFull
)

// A phase is what a host does about one connection.
type phase int8

const (
	idle     phase = iota // no request yet
	reading               // about to read the record, to attach
	putting               // the transaction that attaches is under way
	attached              // answers heartbeats
	finding               // about to read the record, to mark it
	marking               // the transaction that marks is under way
	revoking              // it won, and revokes the lease
	over                  // nothing is left to do
)

// A message is a heartbeat, or its answer, on a connection.
type message struct {
	Sent  bool
	Age   int8 // ticks since the heartbeat was sent
	Lease int8 // in an answer: how long the lease stands, from the arrival of the heartbeat
}

// A conn is one connection of the caller, with one stream. Its number is the
// sequence of the stream's first request.
type conn struct {
	Open   bool  // it was made
	Host   int8  // to which host
	Left   bool  // the caller has closed it, or died
	Cut    bool  // the host has closed it, or died
	Seen   bool  // the host has seen the caller's close
	Phase  phase // the host's
	Guard  int8  // revision that a transaction under way compares
	Last   int8  // ticks since the last heartbeat that counts arrived
	First  message
	Beat   message // to the host
	Answer message // to the caller
}

// A late request may be applied at any later moment.
type late struct {
	Kind  phase // putting, marking or revoking; idle: none
	Conn  int8
	Guard int8
}

// A State is everything that the model knows.
type State struct {
	// etcd
	Alive  bool // the lease
	Lease  int8 // ticks that it has left
	Rev    int8 // of the record
	Conn   int8 // that the record names, 0: none
	Ending bool
	Late   [maxLate]late

	// the caller
	Dead    bool
	Now     int8 // the connection that it uses, 0: none yet
	Beats   int8 // heartbeats that it may still send
	ByBeat  int8 // ticks for which its last heartbeat counts
	ByLease int8 // ticks for which the last renewal counts

	Conns  [maxConns]conn
	Faults Faults
	Wrong  bool // released by the end of a connection that the caller did not end
}

// counts says whether the caller counts on its session.
func (s *State) counts() bool { return !s.Dead && s.ByBeat > 0 && s.ByLease > 0 }

func (s *State) remember(l late) bool {
	for i := range s.Late {
		if s.Late[i].Kind == idle {
			s.Late[i] = l
			return true
		}
	}
	return false
}
