package rendezvous

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/conclavehq/conclave/core"
)

// A Record says who holds a barrier, or is a member. It is the value of holds,
// tickets and what guards them.
type Record struct {
	V          int       `json:"v"`
	ID         string    `json:"id"`
	Owner      string    `json:"owner"`
	Host       string    `json:"host"`
	PID        int       `json:"pid"`
	Purpose    string    `json:"purpose,omitempty"`
	Persistent bool      `json:"persistent,omitempty"`
	Since      time.Time `json:"since"`
}

const recordVersion = 1

// recordFor is what all records of a session have in common.
func recordFor(s *core.Session) Record {
	r := Record{V: recordVersion, Owner: s.Owner()}
	if s.Engine().Borrowed() { // this process only lends its hands
		return r
	}
	r.PID = os.Getpid()
	var err error
	if r.Host, err = os.Hostname(); err != nil {
		r.Host = "unknown"
	}
	return r
}

func recordOf(value []byte) Record {
	var r Record
	_ = json.Unmarshal(value, &r) // a foreign value reads as an unknown owner
	return r
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("rendezvous: encode %T: %v", v, err)) // only plain fields are in there
	}
	return string(b)
}

// arrivedAt is what a session that hosts serve remembers of its last arrival at a
// cyclic barrier, so that a call that is repeated is not another arrival.
type arrivedAt struct {
	V   int    `json:"v"`
	Op  string `json:"op"`
	Gen int64  `json:"gen"`
}
