package history

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/conclavehq/conclave/recipes/internal/state"
)

var now = time.Unix(1_800_000_000, 0)

func ended(segment string, rev int64) found {
	return found{segment: segment, kind: state.Grant, rev: rev, cause: Released, seen: now,
		owner: &mvccpb.KeyValue{Key: []byte("grant"), ModRevision: rev - 1, Value: []byte(`{"v":1,"acq":"1-a","mode":"w","owner":"o"}`)}}
}

func newTestLedger(keep int) *ledger { return newLedger(keep, time.Hour) }

func TestLedgerWritesOnceASecond(t *testing.T) {
	l := newTestLedger(10)
	l.add(ended("a", 5))
	l.saw(6, nil)
	b, again := l.take(now)
	if len(b.entries) != 1 || !b.put || b.mark.Revision != 6 || !again.IsZero() {
		t.Fatalf("the first flush is %+v, again at %v", b, again)
	}
	l.add(ended("a", 8))
	l.add(ended("b", 9))
	l.saw(9, nil)
	b, again = l.take(now.Add(leastWait / 2))
	if len(b.entries) != 1 || b.entries[0].segment != "b" || b.mark.Revision != 7 || !again.Equal(now.Add(leastWait)) {
		t.Fatalf("within the second it is %+v, again at %v", b, again)
	}
	b, _ = l.take(now.Add(leastWait))
	if len(b.entries) != 1 || b.entries[0].segment != "a" || b.mark.Revision != 9 {
		t.Fatalf("after the second it is %+v", b)
	}
	if b, _ = l.take(now.Add(time.Hour)); b.put {
		t.Errorf("without anything new it is %+v", b)
	}
}

// TestLedgerTakesNothingTwice: what stands in etcd is found again after a
// restart, and left out.
func TestLedgerTakesNothingTwice(t *testing.T) {
	l := newTestLedger(10)
	l.stands("a", chunkKey{rev: 20, unix: now.Unix(), n: 3})
	for rev := int64(15); rev < 25; rev += 5 {
		l.add(ended("a", rev))
	}
	l.saw(25, nil)
	if b, _ := l.take(now); b.put {
		t.Fatalf("it writes %+v again", b)
	}
	l.add(ended("a", 26))
	if b, _ := l.take(now); len(b.entries) != 1 || len(b.entries[0].endings) != 1 || b.entries[0].endings[0].Revision != 26 {
		t.Fatalf("it writes %+v", b)
	}
}

func TestLedgerKeepsTheNewest(t *testing.T) {
	l := newTestLedger(3)
	at, rev := now, int64(1)
	stand := 0
	for range 5 {
		for range 2 {
			rev += 2
			l.add(ended("a", rev))
		}
		l.saw(rev, nil)
		b, _ := l.take(at)
		if len(b.entries) != 1 {
			t.Fatalf("it writes %+v", b)
		}
		stand = l.shelves["a"].count
		at = at.Add(time.Minute)
	}
	if s := l.shelves["a"]; stand < 3 || stand > 4 || l.total != stand || s.chunks[len(s.chunks)-1].rev != rev {
		t.Errorf("%d endings stand, of which 3 are kept: %+v", stand, s)
	}
	for range 10 {
		rev += 2
		l.add(ended("a", rev))
	}
	b, _ := l.take(at)
	if e := b.entries[0]; len(e.endings) != 3 || e.endings[2].Revision != rev || e.drop != e.key.String() {
		t.Errorf("of ten it writes %+v", e)
	}
}

func TestLedgerBoundsAFlush(t *testing.T) {
	l := newTestLedger(50)
	for i := range perFlush + 10 {
		l.add(ended(fmt.Sprint(i), int64(i+1)))
	}
	l.saw(perFlush+10, nil)
	b, again := l.take(now)
	if len(b.entries) != perFlush || b.mark.Revision != perFlush || again.IsZero() {
		t.Fatalf("it writes %d names up to %d, again at %v", len(b.entries), b.mark.Revision, again)
	}
	if b, _ = l.take(again); len(b.entries) != 10 || b.mark.Revision != perFlush+10 {
		t.Errorf("the rest is %d names up to %d", len(b.entries), b.mark.Revision)
	}
}

func TestPrune(t *testing.T) {
	l := newTestLedger(50)
	old, young := now.Add(-2*time.Hour).Unix(), now.Add(-time.Minute).Unix()
	l.stands("idle", chunkKey{rev: 1, unix: old, n: 2})
	l.stands("used", chunkKey{rev: 2, unix: old, n: 3})
	l.stands("used", chunkKey{rev: 3, unix: young, n: 4})
	cuts := map[string]string{}
	for _, c := range l.prune(now) {
		cuts[c.segment] = c.before
	}
	if len(cuts) != 2 || cuts["idle"] != "" || cuts["used"] != l.shelves["used"].chunks[0].String() || l.total != 4 {
		t.Errorf("it cuts %v, %d are left", cuts, l.total)
	}
	if cuts := l.prune(now); len(cuts) != 0 {
		t.Errorf("again it cuts %v", cuts)
	}
}

func TestPruneWhatIsTooMuch(t *testing.T) {
	l := newTestLedger(50)
	for i := range maxTotal/50 + 1 {
		l.stands(fmt.Sprint(i), chunkKey{rev: int64(i), unix: now.Unix() - int64(maxTotal) + int64(i), n: 50})
	}
	l.age = maxTotal * time.Second
	l.prune(now)
	if l.total > maxTotal*9/10 || l.total < maxTotal*8/10 {
		t.Errorf("%d of %d are left", l.total, maxTotal)
	}
	if l.shelves["0"] != nil || l.shelves[fmt.Sprint(maxTotal/50)] == nil {
		t.Error("it did not begin with the oldest")
	}
}

func TestChunkKeys(t *testing.T) {
	s := space{state.NewSpace("default", "lock")}
	k := chunkKey{rev: 1 << 40, unix: now.Unix(), n: 50}
	segment, got, ok := s.parseChunk(s.chunksOf("jobs%2F2") + k.String())
	if !ok || segment != "jobs%2F2" || got != k {
		t.Errorf("%q, %+v, %v", segment, got, ok)
	}
	if earlier := (chunkKey{rev: 2, unix: now.Unix() + 9, n: 200}); earlier.String() >= k.String() {
		t.Errorf("%s is not before %s", earlier, k)
	}
	for _, bad := range []string{"", "jobs", "jobs/", "jobs/1.2", "jobs/x.2.3", "jobs/1.2.3.4"} {
		if _, _, ok := s.parseChunk(s.chunks() + bad); ok {
			t.Errorf("%q is taken for a chunk", bad)
		}
	}
}

// TestMark: a mark that was written right after what it tells of covers its own
// revision too.
func TestMark(t *testing.T) {
	value, err := json.Marshal(mark{V: 1, Revision: 7})
	if err != nil {
		t.Fatal(err)
	}
	for rev, want := range map[int64]int64{8: 8, 9: 7} {
		if _, upto := markOf(&mvccpb.KeyValue{ModRevision: rev, Value: value}); upto != want {
			t.Errorf("written at %d it covers %d, want %d", rev, upto, want)
		}
	}
	if _, upto := markOf(nil); upto != 0 {
		t.Errorf("no mark covers %d", upto)
	}
}
