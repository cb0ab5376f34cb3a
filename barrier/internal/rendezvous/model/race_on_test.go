//go:build race

package model

// raceEnabled: the searches have no goroutines to race, and run ten times slower when they are watched.
const raceEnabled = true
