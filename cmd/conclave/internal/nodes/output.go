package nodes

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// maxLine is where a line without an end is broken.
const maxLine = 64 << 10

// An Output writes the lines of several nodes, one after the other. It is safe for
// concurrent use.
type Output struct {
	mu     sync.Mutex
	to     io.Writer
	width  int
	colour bool
}

// NewOutput returns an output to a writer; names are filled up to width.
func NewOutput(to io.Writer, width int, colour bool) *Output {
	return &Output{to: to, width: width, colour: colour}
}

// colours tell nodes apart on dark and on light grounds: cyan, yellow, magenta,
// green, blue, red.
const colours = "635241"

// Line writes one line of a node.
func (o *Output) Line(index int, name, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	prefix := fmt.Sprintf("%-*s |", o.width, name)
	if o.colour {
		prefix = fmt.Sprintf("\x1b[3%cm%s\x1b[0m", colours[index%len(colours)], prefix)
	}
	// Nobody is left to tell that the terminal has gone.
	_, _ = fmt.Fprintf(o.to, "%s %s\n", prefix, text)
}

// lines cuts what is written into lines. One writer uses it.
type lines struct {
	to   func(line string)
	rest []byte
}

// Write takes a part of the text.
func (l *lines) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 && len(l.rest) < maxLine {
			return len(b), nil
		}
		if i < 0 {
			i = len(l.rest)
		}
		l.to(string(bytes.TrimRight(l.rest[:i], "\r\n")))
		l.rest = l.rest[min(i+1, len(l.rest)):]
	}
}
