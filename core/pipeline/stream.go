package pipeline

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pipelinev1 "github.com/conclavehq/conclave/api/conclave/pipeline/v1"
	"github.com/conclavehq/conclave/internal/pipewire"
)

// maxMessage is what a message of answers may have of bytes: one answer of the
// largest size, and those that it shares the message with.
const maxMessage = 8 << 20

// maxUnsent is how many bytes of calls may wait for the connection to take them.
const maxUnsent = 1 << 20

// A stream carries calls. One goroutine writes them, another one reads the answers.
type stream struct {
	conn  *Conn
	below grpc.ClientStream
	stop  context.CancelFunc
	from  *peer.Peer
	since time.Time
	wake  chan struct{} // one token, for who writes

	mu      sync.Mutex
	last    uint64           // id that was given
	waiting map[uint64]*call // by id
	out     pipewire.Outbox
	asleep  bool // who writes waits for a token
	retired bool // no more calls are taken
	err     error
}

// dial opens a stream: the host serves it once its header is there.
func (c *Conn) dial() (*stream, error) {
	ctx, stop := context.WithCancel(c.ctx)
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	below, err := c.below.NewStream(ctx, desc, pipelinev1.PipelineService_Calls_FullMethodName,
		grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage))
	if err != nil {
		stop()
		return nil, err
	}
	if md, err := below.Header(); md == nil || err != nil {
		err := below.RecvMsg(new(message))
		stop()
		if err == nil || errors.Is(err, io.EOF) {
			err = status.Error(codes.Unavailable, "the host ended the pipeline at once")
		}
		return nil, err
	}
	s := &stream{conn: c, below: below, stop: stop, since: time.Now(), wake: make(chan struct{}, 1), waiting: make(map[uint64]*call)}
	s.from, _ = peer.FromContext(below.Context())
	return s, nil
}

// run carries calls until the stream ends.
func (s *stream) run() {
	var writing sync.WaitGroup
	writing.Go(s.write)
	s.end(s.readAll())
	s.stop()
	writing.Wait()
}

// begin sends a call, unless the stream takes none: it has retired, or what there is
// to send already does not get away.
func (s *stream) begin(l *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired || s.out.Len() > maxUnsent {
		return false
	}
	s.last++
	l.sent.ID = s.last
	s.waiting[s.last] = l
	s.out.Call(l.method, &l.sent)
	s.rouse()
	return true
}

// finish waits for the end of a call.
func (s *stream) finish(ctx context.Context, l *call, reply any) error {
	select {
	case <-l.done:
	case <-ctx.Done():
		if s.giveUp(l) {
			return status.FromContextError(ctx.Err()).Err()
		}
		<-l.done // the answer was being read just now
	}
	err := l.result(reply, s.from)
	if status.Code(err) == codes.Unauthenticated {
		s.retire() // the next one is opened with what credentials there are then
	}
	return err
}

// giveUp tells the host that nobody waits for a call, unless it is answered.
func (s *stream) giveUp(l *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[l.sent.ID] != l {
		return false
	}
	delete(s.waiting, l.sent.ID)
	s.out.Cancel(l.sent.ID)
	s.rouse()
	return true
}

// retire lets the stream end when the calls under way have.
func (s *stream) retire() {
	s.mu.Lock()
	s.retired = true
	s.rouse()
	s.mu.Unlock()
	s.conn.over(s)
}

// rouse wakes who writes. The caller holds the lock.
func (s *stream) rouse() {
	if s.asleep {
		s.asleep = false
		s.wake <- struct{}{}
	}
}

// write sends what there is to send until the stream ends.
func (s *stream) write() {
	for {
		m := s.next()
		if m.data == nil {
			_ = s.below.CloseSend() // what is wrong with the stream its reader is told
			return
		}
		if err := s.below.SendMsg(&m); err != nil {
			return
		}
	}
}

// next waits for something to send. An empty message says that nothing will come.
func (s *stream) next() message {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil {
		if s.out.Len() > 0 {
			s.gather()
			return message{s.out.Take()}
		}
		if s.retired && len(s.waiting) == 0 { // until then one of them may be given up
			break
		}
		s.asleep = true
		s.mu.Unlock()
		<-s.wake
		s.mu.Lock()
	}
	return message{}
}

// gather lets those who are about to call do so: they share the message.
func (s *stream) gather() {
	for before := 0; s.out.Len() > before && len(s.waiting) > 1 && !s.out.Full(); {
		before = s.out.Len()
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
}

// readAll gives the answers to those who wait, until the stream ends, and returns
// why it did.
func (s *stream) readAll() error {
	for {
		var m message
		err := s.below.RecvMsg(&m)
		if err == nil {
			err = pipewire.Answers(m.bytes(), s.answered)
			m.data.Free()
		}
		if err != nil {
			return err
		}
	}
}

func (s *stream) answered(a *pipewire.Answer) {
	s.mu.Lock()
	l := s.waiting[a.ID]
	delete(s.waiting, a.ID)
	if s.retired && len(s.waiting) == 0 {
		s.rouse()
	}
	s.mu.Unlock()
	if l != nil {
		l.answered(a)
	}
}

// end tells those who wait that the stream has ended.
func (s *stream) end(err error) {
	switch {
	case s.conn.ctx.Err() != nil:
		err = errClosed
	case errors.Is(err, io.EOF):
		err = status.Error(codes.Unavailable, "the host ended the pipeline before it had answered")
	case status.Code(err) != codes.Unavailable:
		err = status.Errorf(codes.Unavailable, "the pipeline ended: %v", err)
	}
	s.mu.Lock()
	s.retired, s.err = true, err
	waiting := s.waiting
	s.waiting = nil
	s.rouse()
	s.mu.Unlock()
	s.conn.over(s)
	for _, l := range waiting {
		l.failed(err)
	}
}

// A message is one message of the stream, as it is on the wire.
type message struct{ data mem.BufferSlice }

func (m *message) bytes() []byte {
	if len(m.data) == 1 {
		return m.data[0].ReadOnlyData()
	}
	whole := m.data.MaterializeToBuffer(mem.DefaultBufferPool())
	m.data.Free()
	m.data = mem.BufferSlice{whole}
	return whole.ReadOnlyData()
}

// codec passes messages on as they are.
type codec struct{}

// Name is protobuf's: what is on the wire is that.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*message)
	if !ok {
		return nil, status.Errorf(codes.Internal, "a %T is no message of a pipeline", v)
	}
	return m.data, nil
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return status.Errorf(codes.Internal, "a %T is no message of a pipeline", v)
	}
	data.Ref()
	m.data = data
	return nil
}
