package model

// Acquirer is one acquisition of a configuration.
type Acquirer struct {
	Session int
	Kind    Kind
	Permits int8 // wanted by Permits
	Limit   int8 // as this user of the semaphore understands it
	Urgency int8 // larger is more urgent: the bucket of its ticket
	Try     bool // does not wait
	Lowers  bool // a writer that may downgrade before it releases
	Delays  bool // with a lock delay: nobody takes the name for a while after its death
	After   int  // starts when that acquisition (1 is the first) is over; 0 starts at will
}

// Faults are the budgets of a configuration: how often each may happen, at any moment.
type Faults struct {
	Expire     int8 // the lease ends, with all its keys
	Crash      int8 // the process stops; its lease ends later
	LoseReply  int8 // a request is given up; it may be applied late, or never
	Cancel     int8 // a caller stops waiting
	Force      int8 // an operator passes somebody's ownership on
	LoseWatch  int8 // a waiter's watches break, and it starts over from the state
	DropTicket int8 // a waiting ticket is deleted by hand
	DropGrant  int8 // a grant or holding is deleted by hand
	Transfer   int8 // an owner is told of an heir, or an operator passes its ownership on to one
	GiveUpPass int8 // a release is given up unanswered; its session ends later
}

// Config is one configuration of [Line].
type Config struct {
	Acquirers []Acquirer
	Faults    Faults
	Defect    Defect
	LocalLine bool // writers of one session share a line of their own
	Impatient bool // who is cancelled while a Pass names it writes its void record at once, and does not wait for the Pass
	EarlyLook bool // every Enter looks at the line, instead of a while later
	Reads     bool // owners may read the line while they own
	Holds     bool // owners may hold for ever: a release is no progress to rely on
}

// Defect takes a guard or a step out of the protocol.
type Defect int8

// The defects of one name.
const (
	Correct Defect = iota
	DeleteMeansGranted
	NoVoidRecord
	OwnWatchAfterTicket
	LookBeforeOwnWatch
	BlockerFromNow
	NoLook
	NoBlockerWatch
	CancelUnguarded
	ReleaseBySession
	PassIgnoresUrgent
	ClaimIgnoresGrant
	TryIgnoresLine
	EnterOverwritesTicket
	PassKeepsTicketOfLostGrant
	LostOwnerDoesNotAsk
	NextWithoutVoidGuard
	NextOverwritesTicket
	NextWithoutWatch
	BatchIgnoresUrgent
	BatchCrossesBuckets
	BatchSkipsTooLarge
	ReaderClaimIgnoresUrgent
	ReaderTakesAgain
	ReaderPassesBesideReaders
	WriterIgnoresReaders
	DowngradeKeepsTicket
	PermitsClaimIgnoresUrgent
	PermitsClaimIgnoresHolds
	PermitsIgnoreHoldEvents
	PermitsIgnorePredecessorsGrant
	StaleLimitIgnoresLine
	WriterIgnoresLimit
	TicketIgnoresLimit
	LimitKept
	TakeIgnoresShadow
	ClaimIgnoresShadow
	ShadowNotWatched
	LostGrantKeepsShadow
	ForcedKeepsShadow
	HeirNeedNotStand
	HeirMayWantMore
)
