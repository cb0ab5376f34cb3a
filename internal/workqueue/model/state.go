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
	Again      int8 // the caller of an ack at a host gives up, and calls again
	Bury       int8 // a delivery of a served session becomes a dead letter
	Compact    int8 // etcd forgets its history
	Forget     int8 // a forced removal deletes a page of dedup keys by itself
	Pause      int8 // an operator pauses the queue, and goes on with it later
	Open       int8 // another producer opens a segment, and its item is done with
	Split      int8 // a bundle is split by somebody else of the session, also while its ack is under way
}

// Config is one configuration.
type Config struct {
	Items     int
	Consumers int
	Served    bool // the sessions are served by hosts: others end deliveries whose time is over
	Once      bool // every item is nacked once at most, so that there is an end
	Hosts     bool // acks go to a host, which reads the delivery first, and looks into the history
	Shared    bool // all consumers are callers of one session
	Lanes     bool // items lie in segments, which each enqueue opens
	Begun     bool // the lane has a segment: whoever is first may open the next one
	Bundles   bool // there are two items, and a consumer may take both together
	Parcels   bool // what is taken together gets a key for each item, in one transaction
	There     bool // the items are in the queue from the start
	Remove    Removal
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

	RemoveUnguarded     // a removal does not compare that the queue is empty
	RemoveAmongUsers    // nor, without force, that nobody consumes
	EnqueueUnguarded    // an enqueue does not compare when the queue was removed
	RepeatedAcross      // one in doubt is repeated although the queue was removed meanwhile
	ListedForGood       // nor does one list it again
	ForgottenUnseen     // dedup keys are deleted in pages that no enqueue notices
	DropKeepsHere       // a delivery is deleted without its session's key
	LanesAnew           // a removal deletes the numbers of the lanes
	LaneUnguarded       // an enqueue does not compare the number
	NoteAtHosts         // a host that repeats an ack goes by the note, not by the history
	StaleWithoutHere    // a host calls a delivery stale that stands without its session's key
	HistoryWithoutPuts  // the look into the history does not mind where the item was put
	HistoryWithoutHere  // nor that the session's key went with the delivery
	HistoryWithoutStood // nor that it stood until then

	BundleUnchecked        // the claim of a bundle does not compare the items
	BundleWithoutHere      // nor the session's key
	BundleNotRepeated      // one whose reply was lost is forgotten
	BundleForgottenWithKey // one that is repeated when the session has a new key is forgotten
	BundleTakenForRefused  // one that is refused, and was applied before, is not looked for
	PausedMeansNever       // one in doubt that finds the queue paused is given up
	BundleAckUnguarded     // the ack of a bundle does not compare its revision
	BundleAckForgotten     // one whose reply was lost is not in doubt any more after the split
	BundleAckLeft          // one that is given up leaves the bundle to nobody
	SplitUnguarded         // a split does not compare the bundle's revision
	SplitNotRepeated       // one whose reply was lost is forgotten
	SplitForgetsToken      // the deliveries' own keys do not name the bundle's revision
	SplitByToken           // a delivery's own key is compared with its token, not with the revision of the split
	SplitMeansAcked        // what a refused split does not find reads as acked
	SplitMeansAckedInDoubt // so it does after an ack in doubt, without a look at the session's key
	AnyIsOurs              // a refused split takes what it finds for its own
	BundleInheritUnguarded // a dead session's bundle is returned without comparing its key
	BundleInheritAny       // nor the bundle's revision
	BundlesUnnoticed       // nobody returns the bundles of dead sessions
	TidyMindsSingles       // the mark goes while a bundle stands
	RemoveMindsSingles     // so does the queue
	BundleDropKeepsHere    // a forced removal deletes a bundle without its session's key
	FirstForAll            // a claim in doubt of several keys takes all of them for its own if the first one stands
	FirstForNone           // it takes none if the first one does not
)

// Removal is what an operator does to the queue, once.
type Removal int8

// The removals.
const (
	Kept   Removal = iota
	Empty          // at a moment at which it is empty, and nobody consumes
	Forced         // with all that is in it
)

// place is where an item is.
type place int8

const (
	nowhere place = iota
	ready
	out
	acked
	buried
	erased  // deleted by hand
	dropped // deleted by a forced removal
	bundled // delivered together with the other item
)

type item struct {
	At      place
	By      int8 // whose delivery
	Mod     int8 // of its key
	Of      int8 // of the bundle that it was delivered in, before it was split
	Puts    int8
	Nacks   int8
	Effects int8
	Token   int8 // of the ack that was applied
	Dedup   bool
	Segment int8 // 0 in front of the lane
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
	opBury    // of its own delivery
	opResume  // a host reads a delivery, to ack it
	opHead    // tells others where the lane begins
	opDrop    // an item that waits, or a dead letter
	opDropOut // a delivery
	opForget  // a page of dedup keys
	opRemove
	opGather     // the claim of a bundle
	opAckAll     // of a bundle
	opSplit      // puts each delivery of a bundle under its own key
	opInheritAll // a dead session's bundle
	opDropAll    // a bundle
)

// request is a transaction on its way: all that its guards compare.
type request struct {
	Op      op
	Item    int8
	Of      int8 // whose delivery; of an enqueue, whether it lists the queue; where the lane begins
	Mod     int8 // of an enqueue, when the queue was removed
	Here    int8 // the session's key
	Segment int8 // of an enqueue, the one that it opens
	Too     int8 // of the claim of a bundle, the revision of its second item; of an ack, the token, if it is another than Mod
}

type code int8

const (
	codeNone code = iota
	codeDone
	codeRefused
	codeNoSession // the session's key is not what it was
	codeFound     // refused, and a delivery of this session stands
	codeReturned  // refused, and somebody has returned the delivery
	codeStands    // a delivery is there, without its session's key
	codePaused
)

type reply struct {
	Code code
	Mod  int8
	Too  int8 // of what is read of two deliveries, the revision of the second
}

type phase int8

const (
	idle phase = iota
	busy       // its request is on its way
	holding
	settling // it has given up an ack, and returns the delivery in its time
	over     // the process is gone, or the session has ended and it knows
	gripping // it holds a bundle
	sorting  // what was a bundle goes on one by one
)

// told is what the caller of an ack was told.
type told int8

const (
	nothing told = iota
	fine
	stale
	unknown
	forgotten // stale, by a host that cannot see any more that it was applied
)

// actor is a consumer, or a producer that puts one item.
type actor struct {
	Phase   phase
	Here    int8 // create revision of the session's key, as it knows it
	Item    int8
	Mod     int8 // the token, while it holds; of a producer in doubt, when the queue was removed
	Too     int8 // of the claim of a bundle that it repeats, the revision of the second item
	Hands   [maxItems]hand
	Cursor  int8 // where it reads the lane
	Doubt   bool // an earlier request of the same sort has an unknown outcome
	Req     request
	Sent    bool
	Applied bool
	Rep     reply
	Late    [maxLate]request
}

// hand is one delivery of what was a bundle.
type hand struct {
	How how
	Mod int8 // of its own key, 0 if it has none
}

// how a delivery of what was a bundle goes on.
type how int8

const (
	handNone how = iota
	handFree     // it may be acked or returned
	handAck      // its ack goes on, and was not applied
	handLost     // its ack goes on, and may have been applied
	handBack     // it is returned: the caller of its ack does not wait
)

// verdict is what became of the last delivery of an item to a consumer.
type verdict struct {
	Token int8
	Told  told
	End   trail
}

// trail is what the history has of the end of a delivery.
type trail int8

const (
	trailEnd   trail = 1 << iota
	trailPut         // the item was put somewhere
	trailStood       // the session's key stood before it
	trailHere        // and went with it
	trailLost        // compacted
)

// State is the store, the actors, and the faults that are left.
type State struct {
	Rev       int8
	Items     [maxItems]item
	Here      [maxConsumers]int8 // create revision of each session's key, 0 if absent
	Outs      [maxConsumers]int8 // revision of each session's bundle, 0 if absent
	Dead      [maxConsumers]bool // the lease is gone
	Work      [maxConsumers]bool // there may be deliveries of the session
	Notes     [maxConsumers][maxItems]bool
	Consumers [maxConsumers]actor
	Producers [maxItems]actor
	Verdicts  [maxConsumers][maxItems]verdict
	Enqueued  [maxItems]told
	Remover   actor
	Removed   int8 // revision of the key that says so
	Listed    bool
	Paused    bool
	Lane      int8 // the open segment
	Head      int8 // where a new consumer begins to read
	Left      Faults
	Harm      harm
}

type harm int8

const (
	harmNone harm = iota
	harmTwice
	harmAfterAck
	harmLiar
	harmDoubled
)

// session returns whose session a consumer uses.
func (m *Queue) session(consumer int) int {
	if m.cfg.Shared {
		return 0
	}
	return consumer
}
