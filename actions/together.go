package actions

import "sync"

// together runs functions at once, as most of what a host is asked for is the
// start of a program there. It returns the first one's error, in their order.
func together(functions ...func() error) error {
	errs := make([]error, len(functions))
	var all sync.WaitGroup
	for i, f := range functions {
		all.Go(func() { errs[i] = f() })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
