package history

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Limits of what is written.
const (
	maxTotal  = 100_000 // endings in a namespace
	perSecond = 5       // endings of one name, over time
	leastWait = time.Second
	perFlush  = 1000 // endings of all names
)

// A ledger is what a recorder still has to write, and what stands in etcd.
type ledger struct {
	keep int           // endings of a name
	age  time.Duration // after which a name is forgotten

	mu      sync.Mutex
	tails   map[string]*tail
	shelves map[string]*shelf
	total   int     // endings in all shelves
	upto    int64   // all until here has been seen
	gaps    []Gap   // the newest last
	gapped  bool    // one of them is not written
	leases  []int64 // whose keys are to be written
	asked   map[int64]bool
	dirty   chan struct{} // one token: there is something to write
}

// A tail is the endings of a name that are not written.
type tail struct {
	first  int64   // revision of the oldest, kept or not
	ended  []found // as many as are kept; then a ring
	oldest int     // where it begins
}

func (t *tail) add(f found, keep int) {
	if len(t.ended) < keep {
		t.ended = append(t.ended, f)
		return
	}
	t.ended[t.oldest] = f
	t.oldest = (t.oldest + 1) % keep
}

// inOrder returns the endings, oldest first.
func (t *tail) inOrder() []found {
	return slices.Concat(t.ended[t.oldest:], t.ended[:t.oldest])
}

// A shelf is the chunks of a name that stand in etcd, oldest first.
type shelf struct {
	chunks []chunkKey
	count  int
	next   time.Time // not before is it written again
}

func newLedger(keep int, age time.Duration) *ledger {
	return &ledger{keep: keep, age: age, tails: make(map[string]*tail), shelves: make(map[string]*shelf),
		asked: make(map[int64]bool), dirty: make(chan struct{}, 1)}
}

func (l *ledger) signal() {
	select {
	case l.dirty <- struct{}{}:
	default:
	}
}

// stands notes a chunk that stands in etcd. Chunks of a name come in order.
func (l *ledger) stands(segment string, k chunkKey) {
	s := l.shelves[segment]
	if s == nil {
		s = new(shelf)
		l.shelves[segment] = s
	}
	s.chunks = append(s.chunks, k)
	s.count += k.n
	l.total += k.n
}

// add takes an ending in, unless it was written before.
func (l *ledger) add(f found) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.shelves[f.segment]; s != nil && len(s.chunks) > 0 && f.rev <= s.chunks[len(s.chunks)-1].rev {
		return
	}
	t := l.tails[f.segment]
	if t == nil {
		t = &tail{first: f.rev}
		l.tails[f.segment] = t
	}
	t.add(f, l.keep)
	l.signal()
}

// saw notes that all until a revision has been taken in.
func (l *ledger) saw(rev int64, gap *Gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.upto = max(l.upto, rev)
	if gap != nil {
		l.gaps = append(l.gaps, *gap)
		l.gaps = l.gaps[max(0, len(l.gaps)-maxGaps):]
		l.gapped = true
		l.signal()
	}
}

// owns notes a lease that owns something and has no key of ours yet.
func (l *ledger) owns(lease int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lease == 0 || l.asked[lease] {
		return
	}
	l.asked[lease] = true
	l.leases = append(l.leases, lease)
	l.signal()
}

// settled notes that a lease's key was written, or that the lease is gone.
func (l *ledger) settled(lease int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.asked, lease)
}

// An entry is what is written of one name.
type entry struct {
	segment string
	key     chunkKey
	endings []Ending
	drop    string // chunks before this one's key go; empty: none
}

// A batch is what one flush writes.
type batch struct {
	entries []entry
	leases  []int64
	mark    mark
	put     bool // the mark
}

// take returns what may be written now, and when to come again for what may not
// yet; the zero time stands for never.
func (l *ledger) take(now time.Time) (b batch, again time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due, again := l.due(now)
	n := 0
	for _, segment := range due {
		if n >= perFlush {
			again = now.Add(leastWait)
			break
		}
		t := l.tails[segment]
		n += len(t.ended)
		b.entries = append(b.entries, l.entry(segment, t, now))
		delete(l.tails, segment)
	}
	b.leases, l.leases = l.leases, nil
	b.put, l.gapped = len(b.entries) > 0 || l.gapped, false
	b.mark = l.next(now)
	return b, again
}

// due returns the names that may be written, those that wait longest first, and
// when the next one of the others may.
func (l *ledger) due(now time.Time) (due []string, again time.Time) {
	for segment := range l.tails {
		s := l.shelves[segment]
		if s == nil || !now.Before(s.next) {
			due = append(due, segment)
		} else if again.IsZero() || s.next.Before(again) {
			again = s.next
		}
	}
	slices.SortFunc(due, func(a, b string) int { return cmp.Compare(l.tails[a].first, l.tails[b].first) })
	return due, again
}

// mark is what may be said when what was taken so far is written.
func (l *ledger) mark(now time.Time) mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next(now)
}

func (l *ledger) next(now time.Time) mark {
	upto := l.upto
	for _, t := range l.tails {
		upto = min(upto, t.first-1)
	}
	return mark{V: version, Revision: upto, At: now.UTC(), Gaps: l.gaps}
}

// entry makes the next chunk of a name, and puts it on the shelf.
func (l *ledger) entry(segment string, t *tail, now time.Time) entry {
	ended := t.inOrder()
	n := len(ended)
	e := entry{segment: segment, key: chunkKey{rev: ended[n-1].rev, unix: now.Unix(), n: n}}
	for i := range ended {
		e.endings = append(e.endings, ended[i].ending())
	}
	l.stands(segment, e.key)
	s := l.shelves[segment]
	s.next = now.Add(max(leastWait, time.Duration(n)*time.Second/perSecond))
	if l.trim(s) {
		e.drop = s.chunks[0].String()
	}
	return e
}

// trim takes chunks off a shelf that are not needed for the newest endings.
func (l *ledger) trim(s *shelf) (some bool) {
	for len(s.chunks) > 1 && s.count-s.chunks[0].n >= l.keep {
		l.take1(s)
		some = true
	}
	return some
}

// take1 takes the oldest chunk off a shelf.
func (l *ledger) take1(s *shelf) {
	s.count -= s.chunks[0].n
	l.total -= s.chunks[0].n
	s.chunks = s.chunks[1:]
}
