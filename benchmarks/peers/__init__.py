"""Other clients on the same server: each module measures one, by the result file that it writes itself."""
