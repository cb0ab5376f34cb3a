package core

import "sync"

// OnClose has f called when the session is closed, by Close or Orphan, which wait
// for it; unlike the end of Context that comes also after the session expired. f
// must not call Close. OnClose reports false, and f is never called, if the session
// is closed already. It is for what outlives an expiry, and not its owner's word
// that all is over, such as a discovery.Registrar.
func (s *Session) OnClose(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		return false
	}
	s.onClose = append(s.onClose, f)
	return true
}

// leave ends the session by its owner's will. What waits for that has as long as
// the session itself, so they end side by side.
func (s *Session) leave(last func() error) {
	var told sync.WaitGroup
	told.Go(s.tellClosed)
	s.finish(last)
	told.Wait()
}

// tellClosed returns when all who wait for the session's Close have done their work.
func (s *Session) tellClosed() {
	s.telling.Do(func() {
		s.mu.Lock()
		s.left = true
		all := s.onClose
		s.onClose = nil
		s.mu.Unlock()
		var work sync.WaitGroup
		for _, f := range all {
			work.Go(f)
		}
		work.Wait()
	})
}
