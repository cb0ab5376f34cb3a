package history

import (
	"encoding/json"
	"time"
)

// The causes of an ending.
const (
	Released     = "released"
	Forced       = "forced"
	Transferred  = "transferred" // of elections, as is the next one
	Unhealthy    = "unhealthy"
	SessionEnded = "session_ended"
	Deleted      = "deleted"
	Downgraded   = "downgraded"
	Unknown      = "unknown"
)

// An Ending is an ownership that has ended. It is the JSON of one element of a
// chunk.
type Ending struct {
	ID       string    `json:"acq"`
	Token    int64     `json:"token"`
	Mode     string    `json:"mode"` // as in the API
	Permits  int       `json:"permits,omitempty"`
	Owner    string    `json:"owner"`
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Lease    int64     `json:"lease"`
	Purpose  string    `json:"purpose,omitempty"`
	Value    string    `json:"value,omitempty"` // that a leader began with, the first 256 bytes
	Zone     string    `json:"zone,omitempty"`  // of a leader
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	Bound    bool      `json:"bound,omitempty"` // until is the latest that it can be
	Cause    string    `json:"cause"`
	By       string    `json:"by,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Passed   bool      `json:"passed,omitempty"` // straight to the next owner
	Revision int64     `json:"rev"`              // at which it ended
}

// A Gap is a stretch of revisions, both ends included, that nobody recorded.
type Gap struct {
	From int64     `json:"from"`
	To   int64     `json:"to"`
	At   time.Time `json:"at"` // when it was found
}

// A chunk is what one write adds to a name.
type chunk struct {
	V       int      `json:"v"`
	Endings []Ending `json:"endings"` // oldest first
}

// A mark says up to which revision all is recorded.
type mark struct {
	V        int       `json:"v"`
	Revision int64     `json:"revision"`
	At       time.Time `json:"at"`
	Gaps     []Gap     `json:"gaps,omitempty"` // the newest last
}

const (
	version = 1
	maxGaps = 10

	maxValue = 256
)

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "{}" // strings, numbers and times only: it cannot fail
	}
	return string(b)
}
