package cli

import (
	"io"

	"github.com/cheggaaa/pb/v3"
)

// A bar shows how far something has come, if somebody watches.
type bar struct{ pb *pb.ProgressBar }

// progress starts a bar on a terminal. Total is about how many bytes there will be; 0 if
// nobody knows.
func (a *app) progress(total int64) bar {
	if !isTerminal(a.stderr) || a.flags.output.value != outputTable {
		return bar{}
	}
	return bar{newBar(a.stderr, total)}
}

func newBar(w io.Writer, total int64) *pb.ProgressBar {
	b := pb.New64(total).SetWriter(w).SetTemplateString(`{{counters . }} {{bar . }} {{percent . }} {{speed . "%s/s" ""}} {{rtime . "%s left" "" ""}}`)
	return b.Set(pb.Bytes, true).Set(pb.SIBytesPrefix, false).Set(pb.CleanOnFinish, true).Start()
}

// at says how many bytes there are now.
func (b bar) at(n int64) {
	if b.pb == nil {
		return
	}
	if n > b.pb.Total() {
		b.pb.SetTotal(n) // the store has grown since it was asked
	}
	b.pb.SetCurrent(n)
}

// end takes the bar off the screen.
func (b bar) end() {
	if b.pb != nil {
		b.pb.Finish()
	}
}
