"""Trust: what licences ask for, signatures over exports, and bills of materials written from the ledger."""
