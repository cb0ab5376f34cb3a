package history

import (
	"bytes"
	"hash/maphash"
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A turn is what one revision did. One transaction may let go of many names, and each
// of them asks what was put below it: mostly nothing, which the filter tells without
// a look at every event.
type turn struct {
	events []*clientv3.Event

	known  bool
	filter [16]uint64 // a bit for the hash of each name below which something was put
}

var turnSeed = maphash.MakeSeed()

func bit(h uint64) (word int, mask uint64) { return int(h>>6) % 16, 1 << (h % 64) }

// puts returns what was put below a name, by its spelling in keys.
func (u *turn) puts(s space, segment string) iter.Seq[*mvccpb.KeyValue] {
	return func(yield func(*mvccpb.KeyValue) bool) {
		if len(u.events) == 1 { // the one that asks
			return
		}
		u.fill(s)
		word, mask := bit(maphash.String(turnSeed, segment))
		if u.filter[word]&mask == 0 {
			return
		}
		for _, ev := range u.events {
			if ev.Type == mvccpb.PUT && string(segmentOf(s, ev.Kv.Key)) == segment && !yield(ev.Kv) {
				return
			}
		}
	}
}

func (u *turn) fill(s space) {
	if u.known {
		return
	}
	u.known = true
	for _, ev := range u.events {
		if ev.Type == mvccpb.PUT {
			word, mask := bit(maphash.Bytes(turnSeed, segmentOf(s, ev.Kv.Key)))
			u.filter[word] |= mask
		}
	}
}

// segmentOf returns the spelling of the name that a key is below.
func segmentOf(s space, key []byte) []byte {
	segment, _, _ := bytes.Cut(key[min(len(key), len(s.Prefix())):], []byte("/"))
	return segment
}
