package workqueue

import (
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A segment is full when a writer has put so many items or bytes into it, or when the
// store is so many revisions further than its opening.
const (
	segmentItems     = 128
	segmentBytes     = 1 << 20
	segmentRevisions = 128
)

// lane is what a producer knows of the open segment of a priority, or expects until
// a batch that opens it is answered.
type lane struct {
	key     string // that has the segment's number
	value   string // of the key
	mod     int64  // of the key; 0 while there is none, expected while it is not known
	segment int64
	at      string        // where its items begin
	after   *clientv3.Cmp // what holds before it is open, if numbers cannot be compared
	items   int           // put by this writer, or on their way
	bytes   int
}

const expected = -1

func (k keys) lane(b, value string, mod, segment int64) *lane {
	return &lane{key: k.tail(b), value: value, mod: mod, segment: segment, at: k.segment(b, segment)}
}

// laneBehind is the next segment, as it is expected.
func (k keys) laneBehind(l *lane) *lane {
	segment := l.segment + 1
	var after *clientv3.Cmp
	switch {
	case l.mod == 0:
		segment, after = 1, new(absent(l.key))
	case l.value != segmentText(l.segment), len(l.value) != len(segmentText(segment+1)): // of an older library, or by hand
		after = new(clientv3.Compare(clientv3.Value(l.key), "=", l.value))
	}
	n := k.lane(idOf(l.key), segmentText(segment), expected, segment)
	n.after = after
	return n
}

// full tells that the next segment is to be opened, by somebody who has seen a
// revision.
func (l *lane) full(seen int64) bool {
	return l.mod == 0 || l.mod != expected && (l.items >= segmentItems || l.bytes >= segmentBytes || seen-l.mod >= segmentRevisions)
}

// open holds as long as a transaction may put items into the segment: it is the open
// one, or the transaction opens it. Of several that are under way whoever comes first
// opens it, so it is enough that nobody has gone past it.
func (l *lane) open() clientv3.Cmp {
	switch {
	case l.after != nil:
		return *l.after
	case l.mod == expected:
		return clientv3.Compare(clientv3.Value(l.key), "<", segmentText(l.segment+1))
	default: // a segment has one text, and is opened for good
		return clientv3.Compare(clientv3.Value(l.key), "=", l.value)
	}
}

// segmentText writes the number of a segment so that texts compare as numbers do.
func segmentText(n int64) string { return fmt.Sprintf("%012d", n) }
