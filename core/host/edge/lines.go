package edge

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/http"
)

// flagEnd marks the envelope that ends one of Connect's streams.
const flagEnd = 2

// A lineWriter turns one of Connect's streams, in JSON, into lines. The header
// waits for the first message, so that a call which fails at once has a status
// of its own.
type lineWriter struct {
	w         http.ResponseWriter
	committed bool
	buf       []byte // of an envelope that is not complete
	ended     bool
}

// Header implements [http.ResponseWriter].
func (l *lineWriter) Header() http.Header { return l.w.Header() }

// Unwrap lets [http.ResponseController] find the client's own writer.
func (l *lineWriter) Unwrap() http.ResponseWriter { return l.w }

// WriteHeader implements [http.ResponseWriter]. The transcoder's streams are
// always 200, and their errors come at the end.
func (l *lineWriter) WriteHeader(int) {}

func (l *lineWriter) commit() {
	if l.committed {
		return
	}
	l.committed = true
	h := l.w.Header()
	h.Set("Content-Type", typeLines)
	h.Set("X-Content-Type-Options", "nosniff")
	// A proxy that gathers lines into blocks would hold back the last ones.
	h.Set("X-Accel-Buffering", "no")
	l.w.WriteHeader(http.StatusOK)
}

// Flush implements [http.Flusher].
func (l *lineWriter) Flush() {
	if !l.ended {
		l.commit()
	}
	if l.committed {
		_ = http.NewResponseController(l.w).Flush()
	}
}

// Write implements [http.ResponseWriter]: it takes envelopes, in any pieces.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.buf = append(l.buf, p...)
	for len(l.buf) >= prefixLen {
		n := prefixLen + int(binary.BigEndian.Uint32(l.buf[1:prefixLen]))
		if len(l.buf) < n {
			break
		}
		if err := l.envelope(l.buf[0], l.buf[prefixLen:n]); err != nil {
			return 0, err
		}
		l.buf = l.buf[:copy(l.buf, l.buf[n:])]
	}
	return len(p), nil
}

func (l *lineWriter) envelope(flags byte, data []byte) error {
	if flags&flagEnd != 0 {
		return l.finish(data)
	}
	l.commit()
	return l.line(data)
}

// line writes data and a line feed in one piece.
func (l *lineWriter) line(data []byte) error {
	_, err := l.w.Write(append(bytes.Clone(data), '\n'))
	return err
}

// finish writes the end of the stream.
func (l *lineWriter) finish(data []byte) error {
	l.ended = true
	var end struct {
		Error *wireError `json:"error"`
	}
	if err := json.Unmarshal(data, &end); err != nil {
		return err
	}
	switch {
	case end.Error == nil:
		l.commit()
		return nil
	case l.committed:
		line, err := json.Marshal(map[string]*wireError{"error": end.Error})
		if err != nil {
			return err
		}
		return l.line(line)
	}
	l.committed = true
	body, err := json.Marshal(end.Error)
	if err != nil {
		return err
	}
	l.w.Header().Set("Content-Type", typeJSON)
	l.w.WriteHeader(httpStatus(end.Error.Code))
	_, err = l.w.Write(body)
	return err
}
