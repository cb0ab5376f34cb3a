package rendezvous

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// The phases of a generation.
const (
	gathering = "gathering" // members come
	within    = "inside"    // all are there, of a double barrier
	counting  = "counting"  // of a latch
	opened    = "open"      // of a latch, until its reset
)

// stateVersion is the version of the state key's value.
const stateVersion = 1

// A state key knows the end of the last generations: at most of this many, and,
// beyond the last one, as long as their lists are no larger than that.
const (
	remembered = 16
	manyMarks  = 4 << 10 // bytes
)

// state is the value of a state key, with its revision.
type state struct {
	V       int     `json:"v"`
	Gen     int64   `json:"gen"`
	Phase   string  `json:"phase"`
	Parties int     `json:"parties"`
	Breaks  bool    `json:"breaks,omitempty"`
	Members string  `json:"members,omitempty"` // of the phase inside
	Past    []ended `json:"past,omitempty"`    // the last generations, the newest first

	rev int64 // with which it was written; 0: there is none
}

// ended is how a generation ended.
type ended struct {
	Gen     int64  `json:"gen"`
	Members string `json:"members,omitempty"`
	Lost    string `json:"lost,omitempty"` // the owner of the ticket whose loss broke it
	Broken  bool   `json:"broken,omitempty"`
}

// stateOf reads a state key; nil stands for its absence. One that cannot be read
// is of no generation, hence nobody's.
func stateOf(kv *mvccpb.KeyValue) state {
	var s state
	if kv != nil {
		_ = json.Unmarshal(kv.Value, &s)
		s.rev = kv.ModRevision
	}
	return s
}

func (s state) encode() string { return mustJSON(s) }

// next is the state after the present generation ended.
func (s state) next(end ended) state {
	end.Gen = s.Gen
	n := state{V: stateVersion, Gen: s.Gen + 1, Phase: gathering, Parties: s.Parties, Breaks: s.Breaks, Past: []ended{end}}
	size := len(end.Members)
	for _, e := range s.Past {
		if size += len(e.Members); len(n.Past) == remembered || size > manyMarks {
			break
		}
		n.Past = append(n.Past, e)
	}
	return n
}

// past returns how a generation ended, as far as that is remembered.
func (s state) past(g int64) (ended, bool) {
	for _, e := range s.Past {
		if e.Gen == g {
			return e, true
		}
	}
	return ended{}, false
}

// markSize is the length of a member's mark in a list of members: 8 bytes of a
// hash, in base64.
const markSize = 11

// mark stands for an id in a list of members.
func mark(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:8])
}

func marks(ids []string) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(mark(id))
	}
	return b.String()
}

// listed tells whether an id is on a list of members.
func listed(members, id string) bool {
	m := mark(id)
	for ; len(members) >= markSize; members = members[markSize:] {
		if members[:markSize] == m {
			return true
		}
	}
	return false
}
