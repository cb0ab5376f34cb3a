package schedule

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

const (
	namePrefix = "conclave-"
	timeLayout = "20060102T150405Z"
)

var nameForm = regexp.MustCompile(`^conclave-(\d{8}T\d{6}Z)-r(\d+)\.db$`)

// A File is a snapshot that lies in a place.
type File struct {
	Name     string    `json:"name"`     // in its place
	Time     time.Time `json:"time"`     // when it was taken, by the clock of the host that took it
	Revision int64     `json:"revision"` // of the store
	Bytes    int64     `json:"bytes"`    // its size
}

// NameOf returns the name of a snapshot of that time and revision. Names sort by time.
func NameOf(taken time.Time, revision int64) string {
	return fmt.Sprintf("%s%s-r%d.db", namePrefix, taken.UTC().Format(timeLayout), revision)
}

// parseName tells the files of this package from all others.
func parseName(name string) (File, bool) {
	m := nameForm.FindStringSubmatch(name)
	if m == nil {
		return File{}, false
	}
	taken, err := time.Parse(timeLayout, m[1])
	if err != nil {
		return File{}, false
	}
	rev, err := strconv.ParseInt(m[2], 10, 64)
	return File{Name: name, Time: taken, Revision: rev}, err == nil
}
