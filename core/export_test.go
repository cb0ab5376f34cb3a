package core

// Lent is how many sessions a lender remembers.
func Lent(l *Lender) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sessions)
}
