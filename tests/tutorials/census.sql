CREATE OR REPLACE VIEW `input_view` AS
SELECT
  age,
  workclass,
  marital_status,
  education_num,
  occupation,
  hours_per_week,
  income_bracket,
  CASE
    WHEN MOD(functional_weight / 100, 10) < 8 THEN 'training'
    WHEN MOD(functional_weight / 100, 10) = 8 THEN 'evaluation'
    WHEN MOD(functional_weight / 100, 10) = 9 THEN 'prediction'
  END AS dataframe
FROM
  `bigquery-public-data.ml_datasets.census_adult_income`;
SELECT dataframe, COUNT(*) AS n FROM input_view GROUP BY 1

CREATE OR REPLACE MODEL
  `census.census_model`
OPTIONS
  ( model_type='LOGISTIC_REG',
    auto_class_weights=TRUE,
    data_split_method='NO_SPLIT',
    input_label_cols=['income_bracket'],
    max_iterations=15) AS
SELECT
  * EXCEPT(dataframe)
FROM
  `input_view`
WHERE
  dataframe = 'training'

SELECT
  *
FROM
  ML.EVALUATE (MODEL `census.census_model`,
    (
    SELECT
      *
    FROM
      `input_view`
    WHERE
      dataframe = 'evaluation'
    )
  )

SELECT * FROM ML.PREDICT(MODEL `census.census_model`, (SELECT * FROM `input_view` WHERE dataframe = 'prediction'))

SELECT
*
FROM
ML.EXPLAIN_PREDICT(MODEL `census.census_model`,
  (
  SELECT
    *
  FROM
    `input_view`
  WHERE
    dataframe = 'evaluation'),
  STRUCT(3 as top_k_features))

SELECT income_bracket, predicted_income_bracket, p.label, p.prob
FROM ML.PREDICT(MODEL `census.census_model`, (SELECT * FROM input_view WHERE dataframe = "prediction" LIMIT 3)), UNNEST(predicted_income_bracket_probs) AS p

CREATE OR REPLACE MODEL `my-project.census.explained`
OPTIONS(model_type="logistic_reg", input_label_cols=["income_bracket"], enable_global_explain=TRUE, calculate_p_values=TRUE) AS
SELECT age, marital_status, hours_per_week, income_bracket FROM `bigquery-public-data.ml_datasets.census_adult_income`

SELECT * FROM ML.ADVANCED_WEIGHTS(MODEL `my-project.census.explained`, STRUCT(FALSE AS standardize))

SELECT * FROM ML.GLOBAL_EXPLAIN(MODEL `my-project`.census.explained)

SELECT * FROM ML.CONFUSION_MATRIX(MODEL `my-project.census.explained`, TABLE `bigquery-public-data.ml_datasets.census_adult_income`)

CREATE OR REPLACE MODEL census.weights OPTIONS(model_type='logistic_reg', labels=['income_bracket'], class_weights=[STRUCT(' >50K', 2.0), STRUCT(' <=50K', 0.5)], ls_init_learn_rate=.15, l1_reg=1, max_iterations=5) AS (
  SELECT age, workclass, education, hours_per_week, income_bracket FROM `bigquery-public-data.ml_datasets.census_adult_income`
)

SELECT income_bracket, AVG(IF(income_bracket = predicted_income_bracket, 1, 0)) AS right_share
FROM ML.PREDICT(MODEL census.weights, (SELECT * FROM `bigquery-public-data.ml_datasets.census_adult_income`))
GROUP BY 1
