"""People label generations: pairs offered on a page, votes that outlive the server, an export of them."""
