-- The columns of the macros' answers, for the data dictionary: DuckDB keeps no comment on a column of a macro.
-- fragment answer_columns()
(SELECT macro, name, place, description
FROM (
    SELECT macro, unnest(names) AS name, unnest(range(1, len(names) + 1)) AS place
    FROM (VALUES
        ('total', ['estimate', 'shown', 'lower', 'upper', 'note']),
        ('series', ['period_start', 'period_end', 'estimate', 'shown', 'lower', 'upper', 'status', 'note']),
        ('cumulative', ['period_start', 'period_end', 'estimate', 'shown', 'lower', 'upper', 'status', 'note']),
        ('compare', ['from_estimate', 'from_lower', 'from_upper', 'to_estimate', 'to_lower', 'to_upper', 'difference',
            'difference_lower', 'difference_upper', 'percent_change', 'percent_lower', 'percent_upper', 'note']),
        ('year_on_year', ['period_start', 'period_end', 'from_estimate', 'from_lower', 'from_upper', 'to_estimate',
            'to_lower', 'to_upper', 'difference', 'difference_lower', 'difference_upper', 'percent_change',
            'percent_lower', 'percent_upper', 'note']),
        ('share', ['part_estimate', 'part_lower', 'part_upper', 'whole_estimate', 'whole_lower', 'whole_upper',
            'share_percent', 'share_lower', 'share_upper', 'note']),
        ('ranking', ['rank', 'item', 'period_start', 'period_end', 'estimate', 'shown', 'lower', 'upper', 'rank_lower',
            'rank_upper', 'lead_confidence', 'note'])
    ) m(macro, names)
) JOIN (VALUES
    ('period_start', 'The first day (UTC).'),
    ('period_end', 'The last day (UTC), inclusive.'),
    ('estimate', 'The reconciled sum, with its sign: add these up.'),
    ('shown', 'The sum to show to people: whole, and never below 0.'),
    ('lower', 'The lower end of the interval for the true sum.'),
    ('upper', 'The upper end of the interval for the true sum.'),
    ('status', 'final, provisional (a table that covers the period is not released yet), or withheld.'),
    ('from_estimate', 'The first sum, with its sign: what the second is compared with.'),
    ('from_lower', 'The lower end of the interval for this true sum.'),
    ('from_upper', 'The upper end of the interval for this true sum.'),
    ('to_estimate', 'The second sum, with its sign.'),
    ('to_lower', 'The lower end of the interval for this true sum.'),
    ('to_upper', 'The upper end of the interval for this true sum.'),
    ('difference', 'to_estimate less from_estimate.'),
    ('difference_lower', 'The lower end of the interval for the true difference.'),
    ('difference_upper', 'The upper end of the interval for the true difference.'),
    ('percent_change', 'The difference in percent of from_estimate; null where that is too close to 0 to divide by.'),
    ('percent_lower', 'The lower end of the interval for the true percent change.'),
    ('percent_upper', 'The upper end of the interval for the true percent change.'),
    ('part_estimate', 'The sum of the part, with its sign.'),
    ('part_lower', 'The lower end of the interval for the true part.'),
    ('part_upper', 'The upper end of the interval for the true part.'),
    ('whole_estimate', 'The sum of the whole, with its sign.'),
    ('whole_lower', 'The lower end of the interval for the true whole.'),
    ('whole_upper', 'The upper end of the interval for the true whole.'),
    ('share_percent', 'The part in percent of the whole; null where the whole is too close to 0 to divide by.'),
    ('share_lower', 'The lower end of the interval for the true share, in percent; 0 if nobody can tell.'),
    ('share_upper', 'The upper end of the interval for the true share, in percent; 100 if nobody can tell.'),
    ('rank', 'The place by the estimate, from 1 for the highest.'),
    ('item', 'What is ranked: a symbol of the dimension, or the first day of a period.'),
    ('rank_lower', 'The best place that the true sum may have.'),
    ('rank_upper', 'The worst place that the true sum may have.'),
    ('lead_confidence', 'For the first: the highest level offered at which it leads all others. For the others: at which the first leads this one.'),
    ('note', 'The level of the intervals, how they were made, and what cannot be told.')
) d(name, description) USING (name))
